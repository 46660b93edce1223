"""Report: the run on one page."""

from collections.abc import Sequence

from digits.ledger import Judgement
from digits.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    ModelRef,
    ReportRef,
    ValidationRef,
)
from digits.workspace import current_workspace
from tasks.caching import step


@step("report")
def report(
    dataset: DatasetRef,
    validation: ValidationRef,
    arrays: ArraysRef,
    models: Sequence[ModelRef],
    evaluations: Sequence[EvaluationRef],
    judgement: Judgement,
) -> ReportRef:
    """Store the page of a run and its decision."""
    from digits.reporting import write_run_report

    workspace = current_workspace()
    with workspace.store.create("reports") as draft:
        write_run_report(
            dataset, validation, arrays, models, evaluations, judgement, workspace, draft.path
        )
    return ReportRef(digest=draft.digest)
