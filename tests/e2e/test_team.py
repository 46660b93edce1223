"""A team's service on PostgreSQL and Redis, and what becomes of runs when a part of it dies."""

import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.engines import PostgreSQL, Redis
from tests.support.small_dataset import NAME
from tests.support.team import Team
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)
# So many that a training lasts until what is tried has happened, and ends soon after.
EPOCHS = 300


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with PostgreSQL() as database, Redis() as redis:
        team = Team(tmp_path_factory.mktemp("team"), database, redis)
        try:
            team.up()
            yield team
        finally:
            team.end()


def training(team: Team, seed: int, replica: str = "replica-1") -> str:
    """Start a training that is not cached, and wait until it runs."""
    run = team.start_run("retrain", replica, dataset=NAME, models=["mlp"], epochs=EPOCHS, seed=seed)
    team.reaches(run, "Running", replica=replica)
    return run


def machine_of(team: Team, run: str) -> str:
    return str(team.flow_run(run)["labels"]["prefect.worker.name"])


def slots(team: Team) -> list[int]:
    found = team.ask("POST", "v2/concurrency_limits/filter", {})
    return [one["active_slots"] for one in found]


def test_both_replicas_know_a_run_that_a_worker_executes(team: Team) -> None:
    run = team.start_run("gc", "replica-1")
    assert team.finished(run, "replica-2") == "Completed"
    assert machine_of(team, run) in ("machine-a", "machine-b")
    assert all(slot == 0 for slot in slots(team))


def test_a_run_lets_a_worker_of_another_pool_train_and_verifies_what_it_made(team: Team) -> None:
    asked = {"dataset": NAME, "models": ["mlp"], "epochs": 2, "train_on": "digits"}
    run = team.start_run("retrain", **asked)
    assert team.finished(run) == "Completed"
    (other,) = team.ask("POST", "flow_runs/filter", {"flows": {"name": {"any_": ["train"]}}})
    assert other["state_name"] == "Completed"
    assert other["labels"]["digits.record"] in team.ledger()


def test_replicas_answer_probes_but_no_one_else_without_the_password(team: Team) -> None:
    url = f"http://127.0.0.1:{team.ports['replica-1']}/api"
    assert httpx.get(f"{url}/ready").status_code == 200
    assert httpx.post(f"{url}/flows/count", json={}).status_code == 401
    assert httpx.get(f"{url}/ready", headers={"Host": "evil.example"}).status_code == 403


def test_a_killed_replica_stops_nobody_who_uses_another(team: Team) -> None:
    run = training(team, seed=1, replica="replica-2")
    team.kill("replica-1")
    other = team.start_run("gc", "replica-2")
    # A worker without its replica repeats its requests until that is back.
    time.sleep(5)
    team.start("replica-1")
    assert team.finished(other, "replica-2") == "Completed"
    assert team.finished(run, "replica-2") == "Completed"


def test_runs_survive_a_restart_of_postgresql(team: Team) -> None:
    run = training(team, seed=2)
    team.database.crash()
    time.sleep(5)
    assert team.request("GET", "ready").status_code == 503
    team.database.start()
    assert team.finished(run) == "Completed"
    assert team.finished(team.start_run("gc")) == "Completed"


def test_runs_survive_the_absence_of_redis(team: Team) -> None:
    run = training(team, seed=3)
    team.redis.stop()
    refused = team.request("POST", "flow_runs/", {})  # invalid, so it starts nothing
    assert refused.status_code == 422
    deployment = team.ask("GET", "deployments/name/gc/gc")["id"]
    refused = team.request("POST", f"deployments/{deployment}/create_flow_run", {})
    assert refused.status_code == 503
    assert "Redis is away" in refused.text
    time.sleep(10)
    team.redis.start()
    assert team.finished(run) == "Completed"
    assert team.finished(team.start_run("gc")) == "Completed"


def test_a_run_whose_worker_stops_frees_its_slot_at_once(team: Team) -> None:
    run = training(team, seed=4)
    machine = machine_of(team, run)
    assert team.stop(machine) == 0
    assert team.runs_on(machine) == []
    assert team.flow_run(run)["state_name"] == "Crashed"
    team.start(machine)
    wait_for(team.workers_are_online, "the workers")


def test_a_run_outlives_its_worker_and_one_that_died_meanwhile_is_noticed(team: Team) -> None:
    run = training(team, seed=5)
    machine = machine_of(team, run)
    team.kill(machine)
    assert team.runs_on(machine)
    team.start(machine)
    assert team.finished(run) == "Completed"


def test_a_run_of_a_lost_machine_ends_and_the_next_one_runs_elsewhere(team: Team) -> None:
    run = training(team, seed=6)
    machine = machine_of(team, run)
    team.lose(machine)
    assert team.finished(run) == "Crashed"
    assert "The machine of this run was lost" in team.flow_run(run)["state"]["message"]
    after = training(team, seed=6)
    assert machine_of(team, after) != machine
    assert team.finished(after) == "Completed"


@pytest.mark.parametrize("name", ["services", "replica-2"])
def test_a_process_that_is_told_to_stop_stops(team: Team, name: str) -> None:
    # By the signal itself, once all is closed.
    assert team.stop(name) == -signal.SIGTERM
