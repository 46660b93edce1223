"""Shows runs and champions in Prefect's dashboard, as dashboard artifacts.

None of this is part of a result: if the server is unreachable, the run goes on without it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run

from digits.errors import DamagedError
from digits.escaping import markdown_text
from digits.progress import followed
from digits.registry.ledger import Entry, Ledger, champion_of
from digits.registry.promotion import RunOutcome
from digits.report.dashboard_pages import champion_page, failure_page, run_page
from digits.report.sentences import headline
from digits.settings import Settings
from digits.spec import load_spec
from digits.storage.records import Record
from digits.storage.workspace import current_workspace
from digits.validation.findings import ValidationFailed
from tasks import artifacts
from tasks.events import emit_decision, emit_validation_failed
from tasks.live import LiveProgress

logger = logging.getLogger(__name__)

T = TypeVar("T")
Address = Callable[[Path], str | None]

# Seconds before each retry; a restarting server needs about this long.
PAUSES = (2, 8, 30)
# Steps whose results the charts show.
PICTURED = ("train", "evaluate")


@contextlib.contextmanager
def on_dashboard(
    dataset: str, title: str, names: Sequence[str], address: Address
) -> Iterator[None]:
    """Show the progress of trainings in this block and, if validation fails, the findings.

    The dataset and `names` become tags of the run, for finding it.
    """
    with live_on_dashboard([dataset, *names]), failures_on_dashboard(dataset, title, address):
        yield


@contextlib.contextmanager
def live_on_dashboard(found_by: Sequence[str]) -> Iterator[None]:
    """Show the progress of trainings in this block; `found_by` become tags of the run.

    Not of its tasks: Prefect's server would be asked for slots, which one that is not ours refuses
    now and then while it stores events in SQLite, and then the task waits for two seconds.
    """
    _patiently(lambda: _tag_run(found_by))
    with LiveProgress() as live, followed(live):
        yield


@contextlib.contextmanager
def failures_on_dashboard(dataset: str, title: str, address: Address) -> Iterator[None]:
    """Show the findings if a validation in this block fails."""
    try:
        yield
    except ValidationFailed as failure:
        link = address(failure.page)
        page = failure_page(title, failure.outcome, failure.page, link)
        show(f"validation-{slug(dataset)}", page, "Data validation failed")
        emit_validation_failed(dataset, failure.outcome)
        raise


def show_run(
    title: str, outcome: RunOutcome, steps: Mapping[str, str | None], address: Address
) -> None:
    """Show the results of a run, with charts if it trained or evaluated a model."""
    store, entry = current_workspace().store, outcome.decision.entry
    pictures: Mapping[str, str] = {}
    if any(made_in is None for step, made_in in steps.items() if step.startswith(PICTURED)):
        from digits.report.dashboard_plots import draw_pictures

        pictures = draw_pictures(outcome.scored, outcome.arrays, store)
    path = store.folder(outcome.report) / "report.html"
    made = (*entry.forms, outcome.report)
    keys = [*(step.key.digest for step in outcome.lineage.values()), *(one.made_by for one in made)]
    page = run_page(
        title,
        outcome,
        steps=steps,
        origins=_origins(keys),
        report=path,
        link=address(path),
        pictures=pictures,
    )
    show(f"retrain-{slug(entry.dataset)}", page, headline(entry.verdict))


def announce(entry: Entry) -> None:
    """Emit the event of a promotion decision and update the champion's page in the dashboard.

    The page is rendered from the ledger, so a missed change appears with the next decision.
    """
    emit_decision(entry)
    workspace = current_workspace()
    entries = Ledger(entry.dataset, workspace.settings).entries()
    champion = champion_of(entries)
    if champion is not None:
        key = f"champion-{slug(entry.dataset)}"
        title = load_spec(entry.dataset, workspace.settings).title
        page = champion_page(title, entries, _drawing_page(entry.dataset))
        if _patiently(lambda: artifacts.newest(key)) != page:
            show(key, page, f"Version {champion.number}, {champion.model.model}")


def show(key: str, page: str, description: str) -> None:
    """Show a page as the newest one of its key, which consists of a-z, 0-9 and dashes.

    The page is Markdown; the description is text, which the dashboard would render as well.
    """
    text = markdown_text(description)
    _patiently(lambda: artifacts.create("markdown", key, page, text))


def _drawing_page(dataset: str) -> str | None:
    """Return the URL of the page on which one draws, or None if there is no model server."""
    server = Settings().serve_url
    return server and f"{server.rstrip('/')}/?dataset={dataset}"


def slug(name: str) -> str:
    """Make a dataset's name usable in a key."""
    return name.replace("_", "--")


def _origins(keys: Iterable[str]) -> Mapping[str, Record]:
    """The readable records of these cache keys, by step."""
    found: dict[str, Record] = {}
    for key in keys:
        with contextlib.suppress(DamagedError):
            record = current_workspace().records.recent(key)
            if record is not None:
                found[record.label] = record
    return found


def _tag_run(names: Sequence[str]) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags={*flow_run.tags, *names})


def _patiently(call: Callable[[], T]) -> T | None:
    """Call the server with retries; None if it stays unreachable."""
    for pause in (*PAUSES, None):
        try:
            return call()
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            if pause is None:
                logger.warning("the dashboard is missing part of this run: %s", error)
                break
            time.sleep(pause)
    return None
