"""Publish: what a run made and who the champion is, to MLflow. Never cached, never fails."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from digits.registry.promotion import RunOutcome
from digits.storage.workspace import current_workspace
from digits.tracking.publication import publish
from digits.tracking.unpublished import MadeByRun

logger = logging.getLogger(__name__)


def publish_run(dataset: str, outcome: RunOutcome) -> None:
    """Publish a run and the champion after it, if an MLflow server is configured."""
    made = MadeByRun(
        run=str(flow_run.name),
        line=outcome.decision.entry.number,
        scored=tuple(outcome.scored),
        report=outcome.report,
    )
    publish_champion(dataset, made)


def publish_champion(dataset: str, made: MadeByRun | None = None) -> None:
    """Publish who the champion is, if an MLflow server is configured."""
    if current_workspace().settings.mlflow_tracking_uri is not None:
        _publish(dataset, made)


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE, persist_result=False)
def _publish(dataset: str, made: MadeByRun | None) -> None:
    warning = publish(dataset, current_workspace().settings, made)
    if warning is not None:
        logger.warning("%s", warning)
