"""The watch over a service's runs, with a real server and real processes that are killed."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending, Running

from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from flows.serving import watch
from flows.serving.watch import NUM_LOOKS, Owner, Watch

HOLDER = """
import sys, types
from flows.serving.watch import hold_run_lock
hold_run_lock(None, types.SimpleNamespace(id=sys.argv[1]), None)
print("held", flush=True)
sys.stdin.read()
"""


@flow(name="something")
def something() -> None:
    """Stand in for a flow."""


@pytest.fixture
def client(current: Workspace) -> Iterator[SyncPrefectClient]:
    assert current.settings.artifacts_dir
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def runs(settings: Settings) -> Watch:
    return Watch(settings, Owner("digits", "local", is_only=True))


def running(client: SyncPrefectClient) -> UUID:
    """Create a run by hand that is Running."""
    return client.create_flow_run(something, state=Running()).id


def of_deployment(client: SyncPrefectClient) -> UUID:
    """Create a run of a deployment that a worker has just picked up."""
    deployment = client.create_deployment(client.create_flow(something), "something")
    return client.create_flow_run_from_deployment(deployment, state=Pending()).id


def state(client: SyncPrefectClient, run: UUID) -> str:
    return str(client.read_flow_run(run).state_name)


@contextlib.contextmanager
def holder(run: UUID) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lock of a run."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    process.kill()
    process.wait()


def look(runs: Watch, client: SyncPrefectClient) -> None:
    """Look so often that a dead run is ended and no longer active."""
    for _ in range(NUM_LOOKS + 1):
        runs.look(client)


def message(client: SyncPrefectClient, run: UUID) -> str:
    """What the server says about a run's state."""
    found = client.read_flow_run(run).state
    return str(found and found.message)


def test_a_run_is_alive_until_its_process_ends_also_while_that_sleeps(
    runs: Watch, client: SyncPrefectClient
) -> None:
    run = running(client)
    with holder(run) as process:
        look(runs, client)
        assert state(client, run) == "Running"
        process.send_signal(signal.SIGSTOP)
        look(runs, client)
        assert state(client, run) == "Running"
        kill(process)
        runs.look(client)
        assert state(client, run) == "Running"  # its worker may be about to report the end
        look(runs, client)
        assert state(client, run) == "Crashed"
        assert "ended without a word" in message(client, run)


def test_a_lock_is_removed_by_its_process_or_after_a_kill_by_the_watch(
    runs: Watch, client: SyncPrefectClient, settings: Settings
) -> None:
    folder = settings.artifacts_dir / "locks" / "runs"
    with holder(running(client)) as ended, holder(running(client)) as killed:
        look(runs, client)
        assert len(list(folder.iterdir())) == 2
        ended.communicate()
        assert len(list(folder.iterdir())) == 1
        kill(killed)
        look(runs, client)
        assert list(folder.iterdir()) == []


def test_a_run_of_another_workspace_is_left_alone(runs: Watch, client: SyncPrefectClient) -> None:
    run = running(client)
    look(runs, client)
    assert state(client, run) == "Running"


def test_a_run_that_was_being_canceled_ends_as_canceled(
    runs: Watch, client: SyncPrefectClient
) -> None:
    run = running(client)
    with holder(run) as process:
        client.set_flow_run_state(run, State(type=StateType.CANCELLING))
        kill(process)
        look(runs, client)
        assert state(client, run) == "Cancelled"


def test_a_run_that_its_worker_never_started_is_crashed_after_a_while(
    runs: Watch, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = of_deployment(client)
    look(runs, client)
    assert state(client, run) == "Pending"
    monkeypatch.setattr(watch, "START_SECONDS", 0)
    look(runs, client)
    assert state(client, run) == "Crashed"
    assert "never started" in message(client, run)


def test_a_run_that_is_starting_is_alive_as_long_as_its_process(
    runs: Watch, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "START_SECONDS", 0)
    run = of_deployment(client)
    with subprocess.Popen(["sleep", "600"]) as process:
        client.update_flow_run(run, infrastructure_pid=str(process.pid))
        look(runs, client)
        assert state(client, run) == "Pending"
        kill(process)
    look(runs, client)
    assert state(client, run) == "Crashed"


def test_a_run_of_another_machines_worker_is_left_to_that_machine(
    settings: Settings, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "START_SECONDS", 0)
    own, other, same_name, nobodys = (of_deployment(client) for _ in range(4))
    for run, pool, worker in (
        *((own, "digits", "here"), (other, "digits", "there")),
        (same_name, "digits-gpu", "here"),
    ):
        labels = {"prefect.work-pool.name": pool, "prefect.worker.name": worker}
        client.update_flow_run_labels(run, labels)
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    for run in (own, other, same_name):
        client.update_flow_run(run, infrastructure_pid=str(ended.pid))
    look(Watch(settings, Owner("digits", "here")), client)
    assert [state(client, run) for run in (own, other, same_name, nobodys)] == [
        *("Crashed", "Pending", "Pending", "Pending")
    ]


def test_a_run_that_is_deleted_meanwhile_does_not_end_the_watch(
    client: SyncPrefectClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Watch] = []

    def look(runs: Watch, client: SyncPrefectClient) -> None:
        looks.append(runs)
        if len(looks) == 2:
            raise KeyboardInterrupt
        client.set_flow_run_state(uuid4(), Running())

    monkeypatch.setattr(watch, "LOOK_SECONDS", 0)
    monkeypatch.setattr(Watch, "look", look)
    with pytest.raises(KeyboardInterrupt):
        watch.watch(settings, Owner("digits", "local"))
    with pytest.raises(ObjectNotFound):
        client.set_flow_run_state(uuid4(), Running())
