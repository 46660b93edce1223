"""Compare: the page about a sweep."""

from collections.abc import Sequence

from digits.storage.references import EvaluationRef, ModelRef, ReportRef
from digits.storage.workspace import current_workspace
from digits.sweeps.variants import Combination
from tasks.caching import step


@step("compare")
def compare(
    *,
    title: str,
    combinations: Sequence[Combination],
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    failures: Sequence[tuple[str, str]],
    is_held_out: bool,
) -> ReportRef:
    """Store the page about a sweep's trainings; `failures` are labels and reasons."""
    from digits.report.sweep_page import write_sweep_page

    store = current_workspace().store
    with store.create("reports") as draft:
        write_sweep_page(
            draft.path,
            store,
            title=title,
            combinations=combinations,
            scored=scored,
            failures=failures,
            is_held_out=is_held_out,
        )
    return ReportRef(digest=draft.digest)
