"""Executes a run that the worker started: always a flow of this project.

Deployments lie in the server's database. Their entrypoint and pull steps are compared with this
project's, and never followed.
"""

import importlib
import inspect
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from prefect import flow_engine
from prefect._internal.control_listener import configure_from_env
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.concurrency._leases import maintain_concurrency_lease
from prefect.engine import handle_engine_signals
from prefect.flow_engine import load_flow_run, run_flow
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.states import Failed

from digits.settings import Settings
from flows.heartbeats import without_heartbeats
from flows.serving.own_code import other_code, requires_registered_code
from flows.serving.proxies import reach_loopback_directly
from flows.serving.registration import own_entrypoints
from flows.serving.run_leases import run_lease

AGAIN = "`make up` or `digits register` registers this project's deployments"


class RefusedError(Exception):
    """A run that is not started, and the reason."""


def execute(flow_run_id: UUID) -> None:
    """Execute a flow run; one that is refused ends as Failed, with the reason."""
    with handle_engine_signals(flow_run_id):
        flow_run = load_flow_run(flow_run_id)
        log = flow_run_logger(flow_run)
        try:
            flow = requested_flow(flow_run)
        except RefusedError as refusal:
            log.error("%s", refusal)
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(flow_run_id, Failed(message=str(refusal)))
        else:
            if requires_registered_code():
                go_on_without_slot()
            with without_heartbeats(), run_lease(flow_run_id, Settings()):
                run_flow(flow, flow_run=flow_run, error_logger=log)  # type: ignore[arg-type]


def go_on_without_slot() -> None:
    """Let a run go on if its slot is lost, as when Redis lost its data.

    Prefect would end it. But slots only save double work: two runs share their steps, and decide
    one after the other.
    """

    def maintain(lease: UUID, seconds: float, **_: Any) -> AbstractContextManager[None]:
        return maintain_concurrency_lease(lease, seconds)

    setattr(flow_engine, "maintain_concurrency_lease", maintain)  # noqa: B010


def requested_flow(flow_run: FlowRun) -> Flow[..., Any]:
    """Return the flow that a run is for. Raises RefusedError if it is not one of this project."""
    if flow_run.deployment_id is None:
        raise RefusedError("refused: the run has no deployment")
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment(flow_run.deployment_id)
    flow = own_flow(deployment, own_entrypoints())
    difference = other_code(deployment) if requires_registered_code() else None
    if difference is not None:
        raise RefusedError(f"refused: {difference}")
    unknown = sorted(flow_run.parameters.keys() - inspect.signature(flow.fn).parameters.keys())
    if unknown:
        known = ", ".join(inspect.signature(flow.fn).parameters)
        raise RefusedError(f"unknown parameter {', '.join(unknown)} (expected {known})")
    return flow


def own_flow(deployment: DeploymentResponse, entrypoints: Mapping[str, str]) -> Flow[..., Any]:
    """Return the flow of a deployment. Raises RefusedError if the deployment is not this project's.

    Only the name is used; everything else must be as this project registers it.
    """
    expected = entrypoints.get(deployment.name)
    if expected is None:
        known = ", ".join(entrypoints)
        raise RefusedError(
            f"refused: {deployment.name} is not a deployment of this project ({known})"
        )
    if deployment.entrypoint != expected:
        raise RefusedError(
            f"refused: the deployment {deployment.name} runs {deployment.entrypoint} (expected "
            f"{expected}); {AGAIN}"
        )
    _check_steps(deployment)
    path, _, name = expected.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    flow: Flow[..., Any] = getattr(module, name)
    return flow


def _check_steps(deployment: DeploymentResponse) -> None:
    """Raise RefusedError if there is a pull step: the code comes with the worker."""
    names = [name for step in deployment.pull_steps or [] for name in step]
    if names:
        raise RefusedError(
            f"refused: the deployment {deployment.name} has a pull step {', '.join(names)}, which "
            f"no deployment of this project has; {AGAIN}"
        )


if __name__ == "__main__":
    configure_from_env()
    reach_loopback_directly()
    execute(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
