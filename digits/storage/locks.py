"""Locks between processes; the kernel releases a lock when its holder dies for any reason."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


def acquire(path: Path, waiting: str = "", *, shared: bool = False, wait: bool = True) -> int:
    """Acquire the lock at `path`, exclusively or, if `shared`, together with other sharers.

    Waits while another process has a conflicting lock; `waiting` is logged once if so. The kernel
    releases the lock with the descriptor, so a killed holder never blocks anyone. Returns the
    descriptor, which the caller closes. Raises BlockingIOError instead of waiting if `wait` is
    False, and OSError if the lock file cannot be written.
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
            # The file may have been deleted while we waited: only a lock on the file that is now
            # at `path` excludes others.
            if _is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def hold(path: Path, waiting: str = "", *, shared: bool = False) -> Iterator[None]:
    """Hold the lock at `path` for the duration of a block."""
    descriptor = acquire(path, waiting, shared=shared)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Try to hold the lock at `path` for the duration of a block; yield whether it succeeded.

    Never waits. Files deleted inside such a block cannot belong to a process that started later.
    """
    descriptor = _open(path)
    try:
        yield _is_taken(descriptor, fcntl.LOCK_EX) and _is_same_file(descriptor, path)
    finally:
        os.close(descriptor)


def is_free(path: Path) -> bool:
    """Return whether the lock at `path` is currently free.

    Needs no permission to write. A lock that cannot even be read counts as taken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    try:
        return _is_taken(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link could lead to a file of someone else's choice. Whoever can open a lock can hold it, so
    # it is never for everyone; the umask decides about the group.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o660)


def _is_taken(descriptor: int, operation: int) -> bool:
    """Try to take a lock without waiting, and return whether that succeeded."""
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
