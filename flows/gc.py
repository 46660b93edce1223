"""Gc: garbage collection, which keeps the run-time folders from growing forever."""

from datetime import timedelta

from prefect import flow

from digits.registry.garbage import Garbage, collect
from digits.report.dashboard_pages import garbage_page
from digits.storage.workspace import current_workspace
from flows.parameters import GraceHours, Positive
from flows.serving.watch import hold_run_lock
from tasks.dashboard import show


@flow(
    name="gc",
    flow_run_name="gc",
    persist_result=False,
    on_running=[hold_run_lock],
)
def gc(
    *,
    keep: Positive = 5,
    refused_days: Positive | None = None,
    grace_hours: GraceHours = 24,
    dry_run: bool = False,
) -> None:
    """Delete files that no model version, recent cache record or run needs.

    Args:
        keep: Number of cache records to keep per step.
        refused_days: Also delete refused batches that are older than this (default: keep all).
        grace_hours: In DIGITS_STORE, keep what any machine has written or used in these hours.
        dry_run: Only show what would be deleted.
    """

    def announce(garbage: Garbage) -> None:
        show("gc", garbage_page(garbage, is_dry_run=dry_run), "Files that are no longer needed")

    collect(
        current_workspace(),
        keep_records=keep,
        refused_days=refused_days,
        grace=timedelta(hours=grace_hours),
        is_dry_run=dry_run,
        announce=announce,
    )
