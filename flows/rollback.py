"""Rollback: make an earlier champion the champion again."""

from prefect import flow
from prefect.runtime import flow_run

from digits.registry.history import roll_back
from digits.registry.ledger import Entry
from digits.storage.references import ModelRef, OnnxRef, Reference
from digits.storage.workspace import current_workspace
from flows.parameters import DatasetName, Positive
from flows.serving.watch import hold_run_lock
from tasks.convert import convert
from tasks.dashboard import announce
from tasks.publish import publish_champion


@flow(
    name="rollback",
    flow_run_name="rollback {dataset}",
    persist_result=False,
    on_running=[hold_run_lock],
)
def rollback(*, dataset: DatasetName = "mnist", version: Positive | None = None) -> Entry:
    """Make an earlier version champion again, after checking every byte of it.

    Args:
        dataset: Dataset whose champion to roll back: the name of a spec in data/datasets.
        version: Version to make champion (default: the previous champion).
    """

    def make_form(model: ModelRef, arrays: Reference) -> OnnxRef:
        return convert(model, arrays, "cpu")

    entry = roll_back(dataset, version, str(flow_run.name), current_workspace(), make_form)
    announce(entry)
    publish_champion(dataset)
    return entry
