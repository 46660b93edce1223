"""Report: the page about a run."""

from collections.abc import Sequence

from digits.registry.ledger import ModelVersion, Verdict
from digits.storage.lineage import Lineage
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef, ReportRef, ValidationRef
from digits.storage.workspace import current_workspace
from tasks.caching import step


@step("report")
def report(
    *,
    title: str,
    validation: ValidationRef,
    arrays: ArraysRef,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    verdict: Verdict,
    rival: ModelVersion | None,
    lineage: Lineage,
) -> ReportRef:
    """Store the page about a run and its decision."""
    from digits.report.run_report import write_run_report

    store = current_workspace().store
    with store.create("reports") as draft:
        write_run_report(
            draft.path,
            store,
            title=title,
            validation=validation,
            arrays=arrays,
            scored=scored,
            verdict=verdict,
            rival=rival,
            lineage=lineage,
        )
    return ReportRef(digest=draft.digest)
