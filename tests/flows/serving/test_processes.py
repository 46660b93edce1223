import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digits.errors import DigitsError
from digits.settings import Settings
from digits.storage.locks import acquire
from flows.serving import processes
from flows.serving.processes import Process, kill_holders

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF_SOURCE = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
PARENT_SOURCE = """
import subprocess, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
print("seen to end:", child.wait(), flush=True)
time.sleep(600)
"""
DEAF = [sys.executable, "-c", DEAF_SOURCE]
PARENT = [sys.executable, "-c", PARENT_SOURCE]
FAIL = [sys.executable, "-c", "print('one\\ntwo'); raise SystemExit(3)"]
SOON = 20.0


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def process(settings: Settings) -> Iterator[Process]:
    """A process that is not started yet, and ends with the test."""
    process = Process("made-up", settings)
    yield process
    process.end(0)


def test_a_process_is_alive_from_its_start_to_its_end(process: Process) -> None:
    assert not process.is_alive
    process.start(SLEEP)
    assert process.is_alive
    pid = int(process.notes[0])
    assert is_running(pid)
    assert os.getsid(pid) != os.getsid(0)
    process.end(SOON)
    assert not process.is_alive
    assert not is_running(pid)


def test_a_process_can_be_found_and_ended_without_being_its_parent(
    process: Process, settings: Settings
) -> None:
    process.start(SLEEP)
    found = Process("made-up", settings)
    assert found.notes == process.notes
    found.end(SOON)
    assert not process.is_alive
    found.end(SOON)  # nothing left to end


def test_a_killed_process_is_not_alive(process: Process) -> None:
    process.start(SLEEP)
    os.kill(int(process.notes[0]), signal.SIGKILL)
    wait_until(lambda: not process.is_alive)
    assert process.notes == []


def test_a_second_process_of_the_same_name_is_refused(process: Process, settings: Settings) -> None:
    process.start(SLEEP)
    with pytest.raises(BlockingIOError):
        Process("made-up", settings).start(SLEEP)
    with pytest.raises(BlockingIOError), Process("made-up", settings).be_this():
        pass


def test_the_current_process_can_take_the_name_and_add_a_note(settings: Settings) -> None:
    process = Process("made-up", settings)
    with process.be_this() as note:
        assert process.notes == [str(os.getpid())]
        note("http://127.0.0.1:1/api")
        assert process.notes == [str(os.getpid()), "http://127.0.0.1:1/api"]
    assert process.notes == []


def test_a_process_that_ignores_sigterm_is_killed(process: Process) -> None:
    process.start(DEAF)
    wait_until(lambda: "deaf" in process.log.read_text())
    pid = int(process.notes[0])
    process.end(0.2)
    assert not is_running(pid)


def test_children_are_killed_first_and_their_parent_notices(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "NOTICE_SECONDS", 0.5)
    process.start(PARENT)
    wait_until(lambda: process.log.read_text().endswith("\n"))
    child = int(process.log.read_text())
    process.end(SOON, children_first=True)
    assert not is_running(child)
    assert f"seen to end: {-signal.SIGKILL}" in process.log.read_text()


def test_the_error_about_a_failed_process_quotes_the_end_of_its_log(process: Process) -> None:
    process.start(FAIL)
    wait_until(lambda: not process.is_alive)
    with pytest.raises(DigitsError, match=r"the made-up ended with exit code 3.*\n  one\n  two"):
        wait_until(process.check)


def test_a_process_that_ran_for_a_while_is_restarted(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.start(SLEEP)
    first = process.notes
    process.keep_alive(SLEEP)
    assert process.notes == first

    os.kill(int(first[0]), signal.SIGKILL)
    wait_until(lambda: not process.is_alive)
    monkeypatch.setattr(processes, "STEADY_SECONDS", 0)
    wait_until(lambda: (process.keep_alive(SLEEP), process.is_alive)[1])
    assert process.notes != first


def test_a_process_that_fails_immediately_is_not_restarted(process: Process) -> None:
    process.start(FAIL)
    wait_until(lambda: not process.is_alive)
    with pytest.raises(DigitsError, match="exit code 3"):
        wait_until(lambda: process.keep_alive(FAIL))


@pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="only Linux lists the holders of a lock"
)
def test_only_holders_of_the_lock_with_the_command_are_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    hold = (
        "import sys, time; from pathlib import Path; from digits.storage.locks import acquire\n"
        "acquire(Path(sys.argv[1]), shared=True); print('holds', flush=True); time.sleep(600)"
    )
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", hold, str(lock), name],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        for name in ("prefect.engine", "by hand")
    ]
    other = subprocess.Popen([*SLEEP, "prefect.engine"], start_new_session=True)
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holds\n"
        kill_holders(lock, "prefect.engine")
        assert holders[0].wait(SOON) == -signal.SIGKILL
        assert holders[1].poll() is None
        assert other.poll() is None
    finally:
        for process in (*holders, other):
            process.kill()
            process.communicate()


def test_a_free_lock_has_no_holders(tmp_path: Path) -> None:
    kill_holders(tmp_path / "lock", "prefect.engine")
    os.close(acquire(tmp_path / "lock"))
    kill_holders(tmp_path / "lock", "prefect.engine")


def test_a_pid_in_a_lock_that_a_stranger_holds_is_not_killed(
    process: Process, settings: Settings
) -> None:
    stranger = subprocess.Popen(SLEEP)
    lock = settings.artifacts_dir / "locks" / "made-up.lock"
    descriptor = acquire(lock)
    try:
        lock.write_text(f"{stranger.pid} http://127.0.0.1:4200/api")

        process.end(0)

        assert process.notes == []
        assert stranger.poll() is None
    finally:
        os.close(descriptor)
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", [b"", b"no pid", b"-1", b"\xff"])
def test_a_lock_without_a_valid_pid_names_no_process(
    content: bytes, process: Process, settings: Settings
) -> None:
    lock = settings.artifacts_dir / "locks" / "made-up.lock"
    descriptor = acquire(lock)
    try:
        lock.write_bytes(content)
        assert process.notes == []
        process.end(0)
    finally:
        os.close(descriptor)


def test_a_long_log_is_moved_aside_while_its_process_goes_on(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_LOG_BYTES", 5)
    process.log.parent.mkdir(parents=True)
    os.mkfifo(fifo := process.log.with_name("fifo"))
    script = f"echo first; read line < {fifo}; echo second; exec sleep 600"
    process.start(["sh", "-c", script])
    wait_until(lambda: process.log.read_text() == "first\n")
    process.keep_alive(SLEEP)
    assert process.log.read_text() == ""
    assert process.log.with_suffix(".1.log").read_text() == "first\n"
    fifo.write_text("go\n")
    wait_until(lambda: process.log.read_text() == "second\n")
