"""Leases of steps in a real Redis: machines are processes with lock folders of their own."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digits.errors import UsageError
from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from tasks import leases
from tasks.leases import leases_of
from tasks.locking import StepLocks
from tests.support.processes import kill, wait_for
from tests.support.redis_server import IS_INSTALLED, RedisServer
from tests.tasks import steps

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="Redis is not installed")

KEY = "0" * 64
PASSWORD = "hunter2"
# Holds the lock of a key; its lease lasts a second, in which a killed holder blocks others.
HOLDER = """
import sys
from tasks import leases
from tasks.locking import StepLocks
leases.SECONDS = 1.0
locks = StepLocks()
locks.acquire_lock(sys.argv[1], "another machine")
print("held", flush=True)
sys.stdin.read()
locks.release_lock(sys.argv[1], "another machine")
"""
# Runs the step, which says when it is executed, and waits then for its input to end.
RUN = """
import sys
from flows.heartbeats import without_heartbeats
from tests.tasks import steps
steps.interludes.append(lambda: (print("executing", flush=True), sys.stdin.read()))
with without_heartbeats():
    print(steps.run("theirs").result.digest, flush=True)
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.started(tmp_path, PASSWORD)
    yield server
    server.stop()


@pytest.fixture
def machine(
    tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> Settings:
    """The settings of this process, a machine that shares a store and Redis with others."""
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(settings.artifacts_dir))
    monkeypatch.setenv("DIGITS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DIGITS_STORE", f"file://{tmp_path}/store")
    monkeypatch.setenv("DIGITS_REDIS_URL", redis.url)
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(leases, "PAUSE_SECONDS", 0.0)
    return Settings()


def another_machine(tmp_path: Path, code: str, *arguments: str) -> "subprocess.Popen[str]":
    elsewhere = tmp_path / "elsewhere"
    folders = {
        "DIGITS_ARTIFACTS_DIR": str(elsewhere / "artifacts"),
        "DIGITS_CACHE_DIR": str(elsewhere / "cache"),
        "PREFECT_LOCAL_STORAGE_PATH": str(elsewhere / "values"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | folders,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def holder(tmp_path: Path, machine: Settings) -> Iterator["subprocess.Popen[str]"]:  # noqa: ARG001
    """Another machine that holds the lock of a step until its input ends."""
    process = another_machine(tmp_path, HOLDER, KEY)
    wait_for(process, "held")
    yield process
    kill(process)


def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        time.sleep(0.01)


def start_waiting(caplog: pytest.LogCaptureFixture) -> threading.Thread:
    """Start a thread that waits for the lock and releases it."""

    def take() -> None:
        locks = StepLocks()
        locks.acquire_lock(KEY, "waiting")
        locks.release_lock(KEY, "waiting")

    caplog.set_level("INFO")
    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: "waiting for another machine" in caplog.text or not thread.is_alive())
    assert thread.is_alive()
    return thread


def lease_names(redis: RedisServer) -> list[bytes]:
    with redis.client as client:
        return client.keys("*")


def test_another_machine_waits_until_the_step_ends(
    holder: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture, redis: RedisServer
) -> None:
    (name,) = lease_names(redis)
    assert name.endswith(b":step:" + KEY.encode())
    thread = start_waiting(caplog)
    holder.communicate()
    thread.join()
    assert lease_names(redis) == []


def test_the_lease_of_a_killed_machine_ends_by_itself(
    holder: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture
) -> None:
    thread = start_waiting(caplog)
    holder.kill()
    thread.join()
    assert caplog.messages == [f"waiting for another machine that runs the same step ({KEY[:12]})"]


def test_a_machine_goes_on_if_redis_ends_while_it_waits(
    holder: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture, redis: RedisServer
) -> None:
    thread = start_waiting(caplog)
    redis.stop()
    thread.join()
    assert holder.poll() is None
    assert "going on without leases" in caplog.text


@pytest.mark.usefixtures("machine")
def test_a_lease_is_renewed_while_it_is_held(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWALS", 1000)
    locks = StepLocks()
    locks.acquire_lock(KEY, "me")
    (name,) = lease_names(redis)
    with redis.client as client:
        client.pexpire(name, 20_000)
        until(lambda: client.pttl(name) > 20_000)
    locks.release_lock(KEY, "me")
    assert lease_names(redis) == []


@pytest.mark.usefixtures("machine")
def test_a_lost_lease_is_logged_and_stops_nothing(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "RENEWALS", 1000)
    locks = StepLocks()
    locks.acquire_lock(KEY, "me")
    with redis.client as client:
        client.flushall()
        client.set(b"somebody else's", b"")
    until(lambda: "lost the lease of a step" in caplog.text)
    locks.release_lock(KEY, "me")
    assert lease_names(redis) == [b"somebody else's"]
    assert caplog.text.count("lost the lease") == 1


@pytest.mark.usefixtures("machine")
def test_without_redis_steps_run_and_one_line_says_so_until_it_is_back(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tasks")
    redis.stop()
    locks = StepLocks()
    for _ in range(3):
        assert locks.acquire_lock(KEY, "me")
        locks.release_lock(KEY, "me")
    (line,) = caplog.messages
    assert line.startswith("Redis does not answer (Error ")
    assert PASSWORD not in line
    redis.start()
    assert locks.acquire_lock(KEY, "me")
    assert len(lease_names(redis)) == 1
    locks.release_lock(KEY, "me")
    assert caplog.messages[1:] == ["Redis answers again"]


def test_a_wrong_password_is_named_but_not_shown(
    machine: Settings, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = redis.url.replace(PASSWORD, "secret")
    monkeypatch.setenv("DIGITS_REDIS_URL", wrong)
    assert "secret" not in repr(Settings())
    here = leases_of(machine.model_copy(update={"redis_url": Settings().redis_url}))
    assert here is not None
    assert here.take(KEY) is None


def test_only_machines_that_share_a_store_have_leases(machine: Settings) -> None:
    assert leases_of(machine) is not None
    assert leases_of(machine.model_copy(update={"store": None})) is None
    assert leases_of(machine.model_copy(update={"redis_url": None})) is None


@pytest.mark.parametrize("address", ["hunter2@here", "redis://:hunter2@here:hunter2/0"])
def test_an_address_that_is_none_is_refused_without_its_password(
    address: str, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_REDIS_URL", address)
    with pytest.raises(UsageError, match="DIGITS_REDIS_URL is not an address of Redis") as refusal:
        leases_of(machine.model_copy(update={"redis_url": Settings().redis_url}))
    assert refusal.value.__cause__ is None
    assert PASSWORD not in str(refusal.value)


def test_a_missing_client_is_named_with_its_remedy(
    machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases._leases.cache_clear()
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match="make team"):
        leases_of(machine)


@pytest.fixture
def theirs(
    tmp_path: Path,
    current: Workspace,  # noqa: ARG001
    machine: Settings,  # noqa: ARG001
) -> Iterator["subprocess.Popen[str]"]:
    """Another machine, in the middle of the step that this one will need."""
    process = another_machine(tmp_path, RUN)
    wait_for(process, "executing")
    yield process
    kill(process)


def start_own_run(caplog: pytest.LogCaptureFixture) -> tuple[threading.Thread, list[steps.Outcome]]:
    outcomes: list[steps.Outcome] = []
    caplog.set_level("INFO")
    thread = threading.Thread(target=lambda: outcomes.append(steps.run("ours")))
    thread.start()
    until(lambda: "waiting for another machine" in caplog.text)
    return thread, outcomes


def test_two_machines_run_a_step_once(
    theirs: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture
) -> None:
    thread, outcomes = start_own_run(caplog)
    printed, _ = theirs.communicate()
    thread.join()
    assert outcomes[0].result.digest == printed.strip()
    assert str(outcomes[0].journal.steps["normalize"]).startswith("theirs of 20")


@pytest.mark.slow
@pytest.mark.faults
def test_two_machines_run_a_step_twice_and_rightly_if_redis_ends_in_the_middle(
    theirs: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture, redis: RedisServer
) -> None:
    thread, outcomes = start_own_run(caplog)
    redis.stop()
    thread.join()
    assert outcomes[0].was_executed
    printed, errors = theirs.communicate()
    assert theirs.returncode == 0, errors
    assert outcomes[0].result.digest == printed.strip()
    after = steps.run("afterwards")
    assert not after.was_executed
    assert after.result == outcomes[0].result
