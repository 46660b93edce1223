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

    Waits as long as another holds it otherwise; `waiting` is logged once if there is a wait. The
    kernel drops the lock with the descriptor, so a killed holder never blocks anyone. Returns the
    descriptor to close. Without `wait` raises BlockingIOError where another holds it; OSError where
    no file can be written.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = _open(path)
        try:
            if not _is_taken(descriptor, operation):
                if not wait:
                    raise BlockingIOError(f"{path} is held by another process")
                if waiting:
                    logger.info("%s", waiting)
                    waiting = ""
                fcntl.flock(descriptor, operation)
            # The file may have been removed while we waited: only a lock on the file that is at
            # `path` now keeps others out.
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


@contextlib.contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` for the length of a block if nobody has it: whether it is held.

    Never waits. What is removed inside such a block cannot be of somebody who has just come.
    """
    descriptor = _open(path)
    try:
        yield _is_taken(descriptor, fcntl.LOCK_EX) and _is_same_file(descriptor, path)
    finally:
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at `path` at this moment."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        return _is_taken(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _is_taken(descriptor: int, operation: int) -> bool:
    """Take a lock without waiting: whether we have it now."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
