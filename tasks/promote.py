"""Promote: decide on the champion. Never cached: it depends on the current champion."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from digits.registry.promotion import Decision, Rule, decide
from digits.storage.lineage import Lineage
from digits.storage.references import DatasetRef, EvaluationRef, ModelRef
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
) -> Decision | None:
    """Write the decision to the ledger. `incumbent` is the champion's score on this test set.

    Returns None, without a decision, if another run has just changed the champion.
    """
    run, workspace = str(flow_run.name), current_workspace()
    decision = decide(
        dataset, scored, incumbent, rule=rule, lineage=lineage, run=run, workspace=workspace
    )
    if decision is not None:
        announce(decision.entry)
    return decision
