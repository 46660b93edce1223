"""The team's service on machines of their own: a replica and a worker on each of two of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bucket_state import BucketState, bucket_state
from tests.support.engines import PostgreSQL, Redis
from tests.support.faulty_proxy import proxied
from tests.support.machines import Machine, Network, why_no_namespaces
from tests.support.object_store import ObjectStore, environment
from tests.support.small_dataset import NAME
from tests.support.team import Team
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)
# A training that lasts until what is tried has happened.
LONG = 300


class SpreadTeam(Team):
    """A team whose processes run on machines of a network, with results in a bucket."""

    def __init__(
        self,
        folder: Path,
        engines: tuple[PostgreSQL, Redis],
        machines: Mapping[str, Machine],
        store: Mapping[str, str],
    ) -> None:
        self.machines, self._store = machines, store
        super().__init__(folder, *engines)

    def inside(self, name: str) -> tuple[str, ...]:
        return self.machines[name].inside

    def address(self, name: str) -> str:
        return self.machines[name].address

    def environment(self, name: str, home: str = "") -> dict[str, str]:
        return {**super().environment(name, home), **self._store}

    def training(self, replica: str, **parameters: Any) -> str:
        """Start a training through a replica."""
        return self.start_run("retrain", replica, dataset=NAME, models=["mlp"], **parameters)

    def worker_of(self, run: str, replica: str) -> str:
        return str(self.flow_run(run, replica)["labels"]["prefect.worker.name"])

    def steps(self, run: str) -> dict[str, str]:
        """Return the states of a run's steps."""
        asked = {"flow_runs": {"id": {"any_": [run]}}}
        found = self.ask("POST", "task_runs/filter", asked)
        return {one["name"]: one["state_name"] for one in found}


@pytest.fixture(scope="module")
def team(
    lan: Network, bucket: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpreadTeam]:
    folder = tmp_path_factory.mktemp("service")
    one, other, third = lan.machines
    places = {
        "replica-1": one,
        "machine-a": one,
        "replica-2": other,
        "machine-b": other,
        "services": third,
    }
    with (
        PostgreSQL(lan.host) as database,
        Redis(lan.host) as redis,
        proxied(bucket.port, lan.host) as proxy,
    ):
        store = environment(proxy.address, prefix=folder.name)
        team = SpreadTeam(folder, (database, redis), places, store)
        try:
            team.up()
            yield team
        finally:
            team.end()


def state(bucket: ObjectStore, team: SpreadTeam) -> BucketState:
    prefix = team.environment("machine-a")["DIGITS_STORE"].rpartition("/")[2]
    return bucket_state(bucket.client(), prefix)


def test_run_started_on_one_machine_is_executed_on_another_and_used_by_both(
    team: SpreadTeam, bucket: ObjectStore
) -> None:
    assert team.stop("machine-a") == 0
    made = team.training("replica-1", epochs=1)
    assert team.finished(made) == "Completed"
    assert team.worker_of(made, "replica-2") == "machine-b"
    before = state(bucket, team)
    before.check(NAME)
    team.start("machine-a")
    wait_for(team.workers_are_online, "the workers")
    assert team.stop("machine-b") == 0
    again = team.training("replica-2", epochs=1)
    assert team.finished(again, "replica-2") == "Completed"
    assert team.worker_of(again, "replica-1") == "machine-a"
    steps = team.steps(again)
    assert {steps[step] for step in ("ingest", "train mlp", "evaluate mlp")} == {"Cached"}
    after = state(bucket, team)
    after.check(NAME)
    assert after.bundles == before.bundles
    team.start("machine-b")
    wait_for(team.workers_are_online, "the workers")


def test_killed_replica_stops_no_one_on_the_other_machine(team: SpreadTeam) -> None:
    run = team.training("replica-2", epochs=LONG, seed=1)
    team.reaches(run, "Running", replica="replica-2")
    team.kill("replica-1")
    try:
        other = team.start_run("gc", "replica-2")
        assert team.finished(other, "replica-2") == "Completed"
    finally:
        team.start("replica-1")
    assert team.finished(run, "replica-2") == "Completed"


@pytest.mark.skipif(bool(why_no_namespaces()), reason="machines have no cables of their own")
def test_run_of_a_machine_that_was_cut_off_for_a_moment_goes_on(
    team: SpreadTeam, bucket: ObjectStore
) -> None:
    run = team.training("replica-1", epochs=LONG, seed=2)
    team.reaches(run, "Running")
    worker = team.worker_of(run, "replica-1")
    replica = "replica-2" if worker == "machine-a" else "replica-1"
    with team.machines[worker].disconnected():
        other = team.start_run("gc", replica)
        assert team.finished(other, replica) == "Completed"
    assert team.finished(run, replica) == "Completed"
    state(bucket, team).check(NAME)
