import os
import stat
import threading
import time
from pathlib import Path

import pytest

from digits.storage.locks import acquire, attempt, hold, is_free
from tests.support.permissions import mode
from tests.support.processes import kill, start, wait_for

HOLD = """
import sys, time
from pathlib import Path
from digits.storage.locks import acquire

acquire(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
print("held", flush=True)
sys.stdin.read()
"""

# Read, add, write: two processes doing this at once would lose an increment. Each deletes the lock
# file when it is done, as steps do with theirs.
COUNT = """
import sys
from pathlib import Path
from digits.storage.locks import hold

lock, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(300):
    with hold(lock):
        counter.write_text(str(int(counter.read_text()) + 1))
        lock.unlink()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "one.lock"


def test_a_lock_is_free_before_and_after_it_is_held(lock: Path) -> None:
    assert is_free(lock)
    with hold(lock):
        assert not is_free(lock)
    assert is_free(lock)


@pytest.mark.faults
def test_a_lock_is_free_as_soon_as_its_holder_is_killed(lock: Path) -> None:
    holder = start(HOLD, lock, "alone")
    wait_for(holder, "held")
    assert not is_free(lock)

    kill(holder)

    assert is_free(lock)
    os.close(acquire(lock))


@pytest.mark.faults
def test_a_waiting_process_continues_when_the_holder_is_killed(
    lock: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "digits")
    holder = start(HOLD, lock, "alone")
    wait_for(holder, "held")
    waiter = threading.Thread(target=lambda: os.close(acquire(lock, "waiting for another")))
    waiter.start()
    wait_until_logged(caplog, "waiting for another")

    kill(holder)
    waiter.join(60)

    assert not waiter.is_alive()
    assert caplog.messages == ["waiting for another"]


def wait_until_logged(caplog: pytest.LogCaptureFixture, message: str) -> None:
    deadline = time.monotonic() + 60
    while message not in caplog.messages:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.faults
def test_a_shared_lock_excludes_only_exclusive_holders(lock: Path) -> None:
    holder = start(HOLD, lock, "shared")
    wait_for(holder, "held")

    os.close(acquire(lock, shared=True))
    with attempt(lock) as is_ours:
        assert not is_ours
    kill(holder)
    with attempt(lock) as is_ours:
        assert is_ours


def test_an_attempt_excludes_others_while_it_lasts(lock: Path) -> None:
    with attempt(lock) as is_ours:
        assert is_ours
        with attempt(lock) as is_ours_too:
            assert not is_ours_too
    assert is_free(lock)


def test_a_lock_on_a_deleted_file_is_void(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "digits")
    descriptors: list[int] = []
    first = acquire(lock)
    waiter = threading.Thread(target=lambda: descriptors.append(acquire(lock, "waiting")))
    waiter.start()
    wait_until_logged(caplog, "waiting")

    lock.unlink()
    os.close(first)
    waiter.join(60)

    # The waiter now holds the lock on a new file at the path.
    assert os.path.samestat(os.fstat(descriptors[0]), lock.stat())
    assert not is_free(lock)
    os.close(descriptors[0])


@pytest.mark.faults
def test_processes_that_delete_the_lock_file_never_overlap(lock: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    processes = [start(COUNT, lock, counter) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors

    assert counter.read_text() == "1200"


def test_whether_a_lock_is_free_can_be_told_without_permission_to_write(lock: Path) -> None:
    descriptor = acquire(lock)
    lock.chmod(0o400)
    with mode(lock.parent, 0o500):
        assert not is_free(lock)
        os.close(descriptor)
        assert is_free(lock)
        assert is_free(lock.with_name("never made"))
    with mode(lock, 0):
        assert not is_free(lock)


def test_a_lock_is_not_for_everyone(lock: Path) -> None:
    before = os.umask(0)
    try:
        os.close(acquire(lock))
    finally:
        os.umask(before)
    assert stat.S_IMODE(lock.stat().st_mode) == 0o660


def test_a_link_in_place_of_a_lock_is_not_followed(lock: Path, tmp_path: Path) -> None:
    lock.parent.mkdir()
    lock.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        acquire(lock)

    assert not (tmp_path / "elsewhere").exists()
