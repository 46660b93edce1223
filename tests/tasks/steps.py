"""A fast step that is cached like any other and stands in for `normalize`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prefect import flow

from digits.storage.references import ArraysRef, DatasetRef
from digits.storage.workspace import current_workspace
from tasks.caching import step
from tasks.journal import Journal
from tests.support.small_dataset import small_layout

# Callbacks that the next executions of the step run, one per execution.
interludes: list[Callable[[], None]] = []


@dataclass
class Outcome:
    """The result of a run of the step, and its journal."""

    result: ArraysRef
    journal: Journal = field(default_factory=Journal)

    @property
    def was_executed(self) -> bool:
        return bool(self.journal.executed)


def dataset(name: str = "a") -> DatasetRef:
    """The step's input; its content depends on `name`, one letter from a to f."""
    return DatasetRef(
        digest=name * 64,
        layout=small_layout(),
        num_train=3,
        num_test=2,
        content_digest=name * 64,
        test_digest=name * 64,
    )


@step("normalize")
def normalize(dataset: DatasetRef) -> ArraysRef:
    """Store a file that depends only on the input."""
    store = current_workspace().store
    with store.create("arrays") as draft:
        (draft.path / "x_train.npy").write_text(f"arrays of {dataset.content_digest}")
    if interludes:
        interludes.pop()()
    return ArraysRef(
        digest=draft.digest,
        layout=dataset.layout,
        num_train=dataset.num_train,
        num_test=dataset.num_test,
        test_digest=dataset.test_digest,
    )


@flow(name="normalize", flow_run_name="{name}", persist_result=False)
def normalize_in_a_run(name: str, dataset: DatasetRef) -> Outcome:  # noqa: ARG001
    """One run with one step, submitted like a training."""
    kept = Journal()
    return Outcome(kept.noting(normalize).submit(dataset=dataset).result(), kept)


def run(name: str = "a run", of: DatasetRef | None = None) -> Outcome:
    """Run the flow."""
    return normalize_in_a_run(name, of or dataset())


def stored_file(outcome: Outcome) -> Path:
    """The file that the step created."""
    return current_workspace().store.folder(outcome.result) / "x_train.npy"


def record_file(outcome: Outcome) -> Path:
    """The record of the step's result."""
    return current_workspace().records.path(outcome.result.made_by)
