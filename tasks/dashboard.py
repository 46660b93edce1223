"""Shows a run and the champion in Prefect's dashboard, as artifacts of its own kind.

None of it is part of any result: where the server cannot be reached, a run goes on without.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run

from digits.datasets.versions import DatasetVersion
from digits.errors import DamagedError
from digits.progress import followed
from digits.registry.ledger import Entry, Ledger, champion_of
from digits.registry.promotion import Decision
from digits.report.dashboard_pages import RunFacts, champion_page, failure_page, run_page
from digits.report.sentences import headline
from digits.spec import load_spec
from digits.storage.lineage import Lineage
from digits.storage.records import Record
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef, ReportRef, ValidationRef
from digits.storage.workspace import current_workspace
from digits.validation.findings import ValidationFailed
from tasks import artifacts
from tasks.events import emit_decision, emit_validation_failed
from tasks.live import LiveProgress

logger = logging.getLogger(__name__)

T = TypeVar("T")
Address = Callable[[Path], str | None]

# A server that is being started again needs about this long; each number is one more try.
PAUSES = (2, 8, 30)
# The steps whose results the pictures show.
PICTURED = ("train", "evaluate")


@contextlib.contextmanager
def on_dashboard(
    dataset: str, title: str, names: Sequence[str], address: Address
) -> Iterator[None]:
    """Show the trainings of this block as they go on, and why its validation failed if it does.

    `names` become tags of the run and its tasks, beside the dataset, so that they can be found.
    """
    found_by = [dataset, *names]
    _patiently(lambda: _tag_run(found_by))
    with tags(*found_by), LiveProgress() as live, followed(live):
        try:
            yield
        except ValidationFailed as failure:
            link = address(failure.page)
            page = failure_page(title, failure.outcome, failure.page, link)
            show(f"validation-{slug(dataset)}", page, "The data is not as expected")
            emit_validation_failed(dataset, failure.outcome)
            raise


def show_run(
    title: str,
    *,
    validation: ValidationRef,
    arrays: ArraysRef,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    decision: Decision,
    lineage: Lineage,
    report: ReportRef,
    version: DatasetVersion,
    steps: Mapping[str, str | None],
    address: Address,
) -> None:
    """Show what a run found; with pictures, unless nothing in them is new."""
    workspace, entry = current_workspace(), decision.entry
    pictures: Mapping[str, str] = {}
    if any(made_in is None for step, made_in in steps.items() if step.startswith(PICTURED)):
        from digits.report.dashboard_plots import draw_pictures

        pictures = draw_pictures(scored, arrays, workspace.store)
    path = workspace.store.folder(report) / "report.html"
    keys = [*(step.key.digest for step in lineage.values()), report.made_by]
    facts = RunFacts(
        title=title,
        scored=scored,
        decision=decision,
        version=version,
        validation=validation,
        lineage=lineage,
        steps=steps,
        origins=_origins(keys),
        report=path,
        link=address(path),
        pictures=pictures,
    )
    show(f"retrain-{slug(entry.dataset)}", run_page(facts), headline(entry.verdict))


def announce(entry: Entry) -> None:
    """Tell of a decision about a champion: an event, and what the dashboard shows as champion.

    That follows the ledger, so that a change which was not shown is shown with the next decision.
    """
    emit_decision(entry)
    workspace = current_workspace()
    entries = Ledger(entry.dataset, workspace.settings).entries()
    champion = champion_of(entries)
    if champion is not None:
        key = f"champion-{slug(entry.dataset)}"
        page = champion_page(load_spec(entry.dataset, workspace.settings).title, entries)
        if _patiently(lambda: artifacts.newest(key)) != page:
            show(key, page, f"Version {champion.number}, {champion.model.model}")


def show(key: str, page: str, description: str) -> None:
    """Show a page as the newest one of its key, which may hold a-z, 0-9 and dashes."""
    _patiently(lambda: artifacts.create("markdown", key, page, description))


def slug(name: str) -> str:
    """A dataset's name as a part of a key."""
    return name.replace("_", "--")


def _origins(keys: Iterable[str]) -> Mapping[str, Record]:
    """The records under cache keys by their step, as far as they can be read."""
    found: dict[str, Record] = {}
    for key in keys:
        with contextlib.suppress(DamagedError):
            record = current_workspace().records.read(key)
            if record is not None:
                found[record.label] = record
    return found


def _tag_run(names: Sequence[str]) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags={*flow_run.tags, *names})


def _patiently(call: Callable[[], T]) -> T | None:
    """What the server answers to a call, or None where it cannot be reached for longer."""
    for pause in (*PAUSES, None):
        try:
            return call()
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            if pause is None:
                logger.warning("the dashboard does not show all of this run: %s", error)
                break
            time.sleep(pause)
    return None
