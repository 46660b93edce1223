"""What the worker executes: whatever a deployment in the database says, only this project's."""

import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow, flow_engine
from prefect._internal.concurrency.cancellation import CancelledError
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.concurrency import _leases
from prefect.concurrency._leases import maintain_concurrency_lease
from prefect.settings import get_current_settings

from digits.settings import ROOT
from flows.gc import gc
from flows.serving import execution, own_code
from flows.serving.execution import RefusedError, go_on_without_slot, own_flow, requested_flow
from flows.serving.processes import NEUTRAL_FOLDER
from flows.serving.registration import own_entrypoints
from flows.serving.worker import COMMAND, FixedJob

CHANGE_FOLDER = {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
SHELL = {"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/planted"}}


def deployment(**changes: object) -> DeploymentResponse:
    """Return the deployment of `gc` as this project registers it, with changes."""
    fields = {
        "name": "gc",
        "flow_id": uuid4(),
        "entrypoint": "flows/gc.py:gc",
        "pull_steps": [],
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
        ({"pull_steps": [CHANGE_FOLDER]}, "set_working_directory, which no deployment of this"),
    ],
)
def test_any_other_is_refused_with_the_reason(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        own_flow(deployment(**changes), own_entrypoints())


def test_every_deployment_of_the_project_can_be_executed() -> None:
    for name, entrypoint in own_entrypoints().items():
        flow = own_flow(deployment(name=name, entrypoint=entrypoint), own_entrypoints())
        assert flow.name == name.removesuffix("-gpu")


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


@pytest.mark.usefixtures("current")
def test_on_several_machines_a_run_of_other_code_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with get_client(sync_client=True) as client:
        made = client.create_deployment(
            client.create_flow(gc), "gc", version="0.0.1+abc", entrypoint="flows/gc.py:gc"
        )
        run = client.create_flow_run_from_deployment(made)
    assert requested_flow(run) is gc  # on one machine, code is edited while the service is up
    monkeypatch.setenv(own_code.SETTING, "true")
    with pytest.raises(RefusedError, match="and this machine has"):
        requested_flow(run)


@pytest.mark.usefixtures("current")
def test_on_several_machines_a_run_goes_on_after_its_slot_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_engine, "maintain_concurrency_lease", maintain_concurrency_lease)
    monkeypatch.setattr(_leases, "_RENEWAL_RETRY_BASE_DELAY", 0.01)

    def outcome() -> str:
        lost = uuid4()  # the server knows no such slot
        try:
            with flow_engine.maintain_concurrency_lease(
                lost, 300, raise_on_lease_renewal_failure=True
            ):
                (renewal,) = [one for one in threading.enumerate() if str(lost) in one.name]
                renewal.join()
                time.sleep(0)  # where Prefect interrupts
            return "went on"
        except CancelledError:
            return "ended"

    assert outcome() == "ended"
    go_on_without_slot()
    assert outcome() == "went on"
