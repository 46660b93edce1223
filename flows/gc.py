"""Gc: garbage collection, so that what lies in the run-time folders does not grow without end."""

from prefect import flow

from digits.registry.garbage import Garbage, collect
from digits.report.dashboard_pages import garbage_page
from digits.storage.workspace import current_workspace
from flows.parameters import Positive
from tasks.dashboard import show


@flow(name="gc", flow_run_name="gc", persist_result=False)
def gc(*, keep: Positive = 5, dry_run: bool = False) -> None:
    """Delete what no version, no recent cache entry and no run needs.

    Args:
        keep: How many cache entries of each step stay.
        dry_run: Only say what would be deleted.
    """

    def announce(garbage: Garbage) -> None:
        show("gc", garbage_page(garbage, is_dry_run=dry_run), "What was not needed any more")

    collect(current_workspace(), keep_records=keep, is_dry_run=dry_run, announce=announce)
