"""Promote: decide on the champion. Never cached: it depends on the current champion."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from digits.errors import DigitsError
from digits.registry.promotion import Decision, decide
from digits.registry.promotion_rule import Rule
from digits.storage.lineage import Lineage
from digits.storage.references import DatasetRef, EvaluationRef, ModelRef, OnnxRef
from digits.storage.workspace import current_workspace
from tasks.dashboard import announce


@task(name="promote", task_run_name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote(
    dataset: DatasetRef,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    incumbent: EvaluationRef | None,
    *,
    rule: Rule,
    lineage: Lineage,
    forms: Sequence[OnnxRef],
) -> Decision | None:
    """Write the decision to the ledger. `incumbent` is the champion's score on this test set.

    `forms` are the ONNX forms that the decision needs.

    Returns None, without a decision, if another run has just changed the champion. Raises
    DigitsError if the server has ended this run: another one may have started since.
    """
    _ensure_running()
    run, workspace = str(flow_run.name), current_workspace()
    decision = decide(
        dataset,
        scored,
        incumbent,
        rule=rule,
        lineage=lineage,
        forms=forms,
        run=run,
        workspace=workspace,
    )
    if decision is not None:
        announce(decision.entry)
    return decision


def _ensure_running() -> None:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run.id).state
    if state is not None and (state.is_final() or state.is_cancelling()):
        raise DigitsError(
            f"the server has ended this run ({state.name}: {state.message}), so it takes no "
            "decision about the champion; start it again: finished steps are kept"
        )
