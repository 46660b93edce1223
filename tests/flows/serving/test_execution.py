"""What the worker executes: whatever a deployment in the database says, only this project's."""

from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import get_current_settings

from digits.settings import ROOT
from flows.gc import gc
from flows.serving import execution
from flows.serving.execution import CHANGE_FOLDER, RefusedError, own_flow
from flows.serving.processes import NEUTRAL_FOLDER
from flows.serving.registration import own_entrypoints
from flows.serving.worker import COMMAND, FixedJob

SHELL = {"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/planted"}}


def deployment(**changes: object) -> DeploymentResponse:
    """Return the deployment of `gc` as this project registers it, with changes."""
    fields = {
        "name": "gc",
        "flow_id": uuid4(),
        "entrypoint": "flows/gc.py:gc",
        "pull_steps": [{CHANGE_FOLDER: {"directory": str(ROOT)}}],
        **changes,
    }
    return DeploymentResponse.model_validate(fields)


def test_a_deployment_as_registered_leads_to_the_flow_itself() -> None:
    assert own_flow(deployment(), own_entrypoints()) is gc
    assert own_flow(deployment(pull_steps=None), own_entrypoints()) is gc


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "planted"}, "planted is not a deployment of this project"),
        ({"entrypoint": "elsewhere.py:gc"}, "gc runs elsewhere.py:gc .expected flows/gc.py:gc"),
        ({"entrypoint": None}, "gc runs None"),
        ({"pull_steps": [SHELL]}, "pull step prefect.deployments.steps.run_shell_script"),
        ({"pull_steps": [{CHANGE_FOLDER: {"directory": str(ROOT)}}, SHELL]}, "run_shell_script"),
        ({"pull_steps": [{CHANGE_FOLDER: {"directory": "/tmp"}}]}, "of the project in /tmp"),
        ({"pull_steps": [{CHANGE_FOLDER: {}}]}, "of the project in None"),
    ],
)
def test_any_other_is_refused_with_the_reason(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        own_flow(deployment(**changes), own_entrypoints())


def test_every_deployment_of_the_project_can_be_executed() -> None:
    for name, entrypoint in own_entrypoints().items():
        flow = own_flow(deployment(name=name, entrypoint=entrypoint), own_entrypoints())
        assert flow.name == name


def test_job_variables_change_neither_command_nor_environment_nor_folder() -> None:
    planted = {"command": "touch planted", "env": {"LD_PRELOAD": "/evil.so"}}
    job = FixedJob.model_validate({**planted, "working_dir": Path("/tmp")})
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4()))
    assert str(job.command).split() == list(COMMAND)
    assert "LD_PRELOAD" not in job.env
    assert job.env["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "CRITICAL"
    assert job.working_dir == NEUTRAL_FOLDER


@flow(name="beating")
def beating() -> None:
    """End as Failed if the run sends heartbeats."""
    assert get_current_settings().flows.heartbeat_frequency is None


# Prefect leaves the connection on which it loads the run to the end of the process.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("current")
def test_a_run_of_the_worker_sends_no_heartbeats_that_its_end_would_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "requested_flow", lambda _: beating)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(beating)
        execution.execute(run.id)
        assert client.read_flow_run(run.id).state_name == "Completed"
