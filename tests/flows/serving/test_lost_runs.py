"""Runs of lost machines, with a real server of Prefect's and a real Redis."""

import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State, StateType
from prefect.states import Pending, Running
from pydantic import SecretStr

from digits.settings import Settings
from digits.storage.workspace import Workspace
from flows.serving import lost_runs, run_leases
from flows.serving.lost_runs import LOST_SECONDS, LostRuns
from flows.serving.run_leases import LABEL, connect, key, run_lease
from tests.support.engines import Redis

POOL = "machines"


@flow(name="something")
def something() -> None:
    """Stand in for a flow."""


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as engine:
        yield engine


class Clock:
    """A clock that a test sets forward."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(redis: Redis, clock: Clock) -> Iterator[LostRuns]:
    client = connect(redis.url)
    yield LostRuns(client, clock)
    client.close()


@pytest.fixture
def client(current: Workspace) -> Iterator[SyncPrefectClient]:
    assert current.settings.artifacts_dir
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
        yield client


def picked_up(client: SyncPrefectClient, worker: str, *, has_lease: bool = True) -> UUID:
    """Create a run of a deployment that a worker has picked up."""
    made = client.create_deployment(client.create_flow(something), "something", work_pool_name=POOL)
    run = client.create_flow_run_from_deployment(made, state=Pending()).id
    labels = {"prefect.worker.name": worker, "prefect.work-pool.name": POOL}
    client.update_flow_run_labels(run, {**labels, **({LABEL: True} if has_lease else {})})
    return run


def state(client: SyncPrefectClient, run: UUID) -> str:
    return str(client.read_flow_run(run).state_name)


def heartbeat(client: SyncPrefectClient, worker: str) -> None:
    client.request(
        "POST",
        "/work_pools/{work_pool_name}/workers/heartbeat",
        path_params={"work_pool_name": POOL},
        json={"name": worker, "heartbeat_interval_seconds": 30},
    )


def test_a_run_is_lost_when_both_its_lease_and_its_worker_are_silent(
    runs: LostRuns, client: SyncPrefectClient, redis: Redis, clock: Clock
) -> None:
    # The server still takes the worker that was lost for one that is online.
    for worker in ("alive", "dead"):
        heartbeat(client, worker)
    lost, leased, worked = (picked_up(client, name) for name in ("dead", "dead", "alive"))
    for run in (lost, leased, worked):
        client.set_flow_run_state(run, Running())
    redis.ask("SET", key(leased), "")
    runs.look(client)
    heartbeat(client, "alive")
    clock.seconds += LOST_SECONDS
    runs.look(client)
    assert [state(client, run) for run in (lost, leased, worked)] == [
        *("Crashed", "Running", "Running")
    ]
    found = client.read_flow_run(lost).state
    assert found is not None
    assert "The machine of this run was lost" in str(found.message)


def test_a_lease_that_comes_back_ends_the_silence(
    runs: LostRuns, client: SyncPrefectClient, redis: Redis, clock: Clock
) -> None:
    run = picked_up(client, "dead")
    runs.look(client)
    clock.seconds += LOST_SECONDS
    redis.ask("SET", key(run), "")
    runs.look(client)
    redis.ask("DEL", key(run))
    clock.seconds += LOST_SECONDS
    runs.look(client)
    assert state(client, run) == "Pending"


def test_only_time_between_two_looks_that_succeed_counts_as_silence(
    runs: LostRuns, client: SyncPrefectClient, clock: Clock
) -> None:
    run = picked_up(client, "dead")
    runs.look(client)
    clock.seconds += LOST_SECONDS - 1
    runs.look(client)
    runs.pause()
    clock.seconds += LOST_SECONDS
    runs.look(client)
    assert state(client, run) == "Pending"
    clock.seconds += 1
    runs.look(client)
    assert state(client, run) == "Crashed"


def test_a_run_that_never_had_a_lease_is_left_alone_unless_it_never_started(
    runs: LostRuns, client: SyncPrefectClient, clock: Clock
) -> None:
    by_hand = client.create_flow_run(something, state=Running()).id
    without, starting = (picked_up(client, "dead", has_lease=False) for _ in range(2))
    client.set_flow_run_state(without, Running())
    runs.look(client)
    clock.seconds += LOST_SECONDS
    runs.look(client)
    names = [state(client, run) for run in (by_hand, without, starting)]
    assert names == ["Running", "Running", "Crashed"]


def test_a_run_of_a_deleted_pool_is_lost_as_well(
    runs: LostRuns, client: SyncPrefectClient, clock: Clock
) -> None:
    run, other = picked_up(client, "dead"), picked_up(client, "dead")
    client.update_flow_run_labels(run, {"prefect.work-pool.name": "deleted"})
    runs.look(client)
    clock.seconds += LOST_SECONDS
    runs.look(client)
    assert [state(client, one) for one in (run, other)] == ["Crashed", "Crashed"]


def test_a_lost_run_that_was_being_canceled_ends_as_canceled(
    runs: LostRuns, client: SyncPrefectClient, clock: Clock
) -> None:
    run = picked_up(client, "dead")
    client.set_flow_run_state(run, State(type=StateType.CANCELLING))
    runs.look(client)
    clock.seconds += LOST_SECONDS
    runs.look(client)
    assert state(client, run) == "Cancelled"


def test_a_lease_lasts_as_long_as_its_run_and_survives_the_loss_of_redis(
    client: SyncPrefectClient,
    redis: Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_leases, "RENEW_SECONDS", 0.05)
    shared = settings.model_copy(update={"redis_url": SecretStr(redis.url)})
    run = picked_up(client, "alive", has_lease=False)

    def is_leased() -> bool:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and redis.ask("EXISTS", key(run)) != "1":
            time.sleep(0.05)
        return int(redis.ask("TTL", key(run))) > 0

    with run_lease(run, shared):
        assert is_leased()
        assert client.read_flow_run(run).labels[LABEL] is True
        redis.crash()
        redis.start()
        redis.ask("FLUSHALL")
        assert is_leased()
    assert redis.ask("EXISTS", key(run)) == "0"


@pytest.mark.usefixtures("client")
def test_a_run_that_is_deleted_meanwhile_does_not_end_the_watch(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[LostRuns] = []

    def look(runs: LostRuns, client: SyncPrefectClient) -> None:
        looks.append(runs)
        if len(looks) == 2:
            raise KeyboardInterrupt
        client.set_flow_run_state(uuid4(), Running())

    monkeypatch.setattr(lost_runs, "LOOK_SECONDS", 0)
    monkeypatch.setattr(LostRuns, "look", look)
    with pytest.raises(KeyboardInterrupt):
        lost_runs.watch(redis.url)
