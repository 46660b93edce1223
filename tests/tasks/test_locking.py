import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.locking.protocol import LockManager

from digits.settings import ROOT
from tasks.locking import StepLocks

KEY = "0" * 64
HOLDER = """
import sys
from tasks.locking import StepLocks
StepLocks().acquire_lock(sys.argv[1], "another process")
print("held", flush=True)
sys.stdin.read()
"""
# Appends "in", then "out" to a file; pairs of different processes must not interleave.
COUNTER = """
import sys, time
from tasks.locking import StepLocks
key, path, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
locks = StepLocks()
for _ in range(times):
    locks.acquire_lock(key, "me")
    for word in ("in\\n", "out\\n"):
        with open(path, "a") as file:
            file.write(word)
        time.sleep(0.001)
    locks.release_lock(key, "me")
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepLocks:
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(tmp_path))
    return StepLocks()


@pytest.fixture
def other(locks: StepLocks) -> Iterator["subprocess.Popen[str]"]:  # noqa: ARG001
    """Another process that holds the lock until its input ends."""
    with start(HOLDER, KEY) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_waiting(locks: StepLocks, said: pytest.LogCaptureFixture) -> threading.Thread:
    """Start a thread that waits for the lock and releases it at once."""

    def take() -> None:
        locks.acquire_lock(KEY, "waiting")
        locks.release_lock(KEY, "waiting")

    said.set_level("INFO")
    thread = threading.Thread(target=take)
    thread.start()
    while thread.is_alive() and not said.messages:
        time.sleep(0.01)
    assert thread.is_alive()
    return thread


def next_descriptor() -> int:
    """The lowest free file descriptor."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_it_implements_prefects_lock_manager_protocol(locks: StepLocks) -> None:
    assert isinstance(locks, LockManager)


def test_one_thread_holds_a_key_at_a_time(locks: StepLocks) -> None:
    inside: list[int] = []
    most = []

    def work(number: int) -> None:
        for _ in range(20):
            locks.acquire_lock(KEY, f"thread {number}")
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
            locks.release_lock(KEY, f"thread {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 120


def test_one_process_holds_a_key_at_a_time(locks: StepLocks, tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    processes = [start(COUNTER, KEY, str(counts), "40") for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    assert counts.read_text().split() == ["in", "out"] * 120
    assert not locks.is_locked(KEY)


def test_locks_of_different_keys_are_independent(
    locks: StepLocks, other: "subprocess.Popen[str]"
) -> None:
    assert other.poll() is None
    assert locks.acquire_lock("1" * 64, "me")


def test_a_waiter_continues_when_the_holder_releases_the_lock(
    locks: StepLocks, caplog: pytest.LogCaptureFixture
) -> None:
    locks.acquire_lock(KEY, "me")
    thread = start_waiting(locks, caplog)
    locks.release_lock(KEY, "me")
    thread.join()
    assert not locks.is_locked(KEY)


def test_a_killed_holder_releases_its_lock(
    locks: StepLocks, other: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture
) -> None:
    thread = start_waiting(locks, caplog)
    assert locks.is_locked(KEY)
    other.kill()
    thread.join()
    assert not locks.is_locked(KEY)
    assert caplog.messages == [f"waiting for another run of the same step ({KEY[:12]})"]


def test_a_holder_can_acquire_again(locks: StepLocks) -> None:
    assert locks.acquire_lock(KEY, "me")
    assert locks.acquire_lock(KEY, "me")
    locks.release_lock(KEY, "me")
    assert not locks.is_locked(KEY)


def test_only_the_holder_can_release_a_lock(locks: StepLocks) -> None:
    locks.acquire_lock(KEY, "me")
    with pytest.raises(ValueError, match="does not hold"):
        locks.release_lock(KEY, "somebody else")
    assert locks.is_lock_holder(KEY, "me")
    assert not locks.is_lock_holder(KEY, "somebody else")
    locks.release_lock(KEY, "me")
    with pytest.raises(ValueError, match="does not hold"):
        locks.release_lock(KEY, "me")


def test_a_released_lock_leaves_no_file(locks: StepLocks, tmp_path: Path) -> None:
    locks.acquire_lock(KEY, "me")
    locks.release_lock(KEY, "me")
    locks.wait_for_lock(KEY)
    assert list((tmp_path / "locks").iterdir()) == []


def test_waiting_does_not_block_the_event_loop(
    locks: StepLocks, other: "subprocess.Popen[str]"
) -> None:
    async def wait() -> None:
        waiting = asyncio.create_task(locks.aacquire_lock(KEY, "me"))
        also_waiting = asyncio.create_task(locks.await_for_lock(KEY))
        # Reached only if neither of them blocks the loop.
        await asyncio.sleep(0)
        other.kill()
        assert await waiting
        locks.release_lock(KEY, "me")
        assert await also_waiting

    asyncio.run(wait())


def test_descriptors_are_closed(locks: StepLocks) -> None:
    before = next_descriptor()
    locks.acquire_lock(KEY, "me")
    locks.is_locked(KEY)
    locks.release_lock(KEY, "me")
    locks.wait_for_lock(KEY)
    assert next_descriptor() == before
