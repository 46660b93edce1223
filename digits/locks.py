"""Locks between processes that free themselves when their holder dies, however it dies."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


def acquire(path: Path, waiting: str = "", *, shared: bool = False, wait: bool = True) -> int:
    """Take the lock at `path`, alone or, if `shared`, beside others that share it.

    Waits as long as another holds it otherwise; without `wait` raises BlockingIOError.

    `waiting` is logged once if there is a wait. The kernel drops the lock with the descriptor, so
    a killed holder never blocks anyone. The file may have been removed while we waited; only a
    lock on the file that is at `path` now counts. Returns the descriptor to close.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                if waiting:
                    logger.info("%s", waiting)
                    waiting = ""
                fcntl.flock(descriptor, operation)
            if _is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def hold(path: Path, waiting: str = "", *, shared: bool = False) -> Iterator[None]:
    """Hold the lock at `path` for the length of a block."""
    descriptor = acquire(path, waiting, shared=shared)
    try:
        yield
    finally:
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at `path` at this moment."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
