"""What a command writes is for its owner, or for the group that its folders are shared with."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from digits.settings import HOME, Settings

OWNER_ONLY, NO_OTHERS = 0o077, 0o007
GROUP = 0o070
# Whoever can open a lock can hold it; the rest contains passwords, keys and logs.
SECRETS = ("prefect/*", "logs/*", "locks/*", "locks/runs/*")
SHARED_LOCKS = ("batches/*.lock", "prepared/*.lock")


class _Before:
    """The umask that this process started with."""

    umask: int | None = None


def write_for_owner(settings: Settings) -> None:
    """Set the umask of this process and its children, and close secrets that are too open.

    Only the owner gets access. A team shares a workspace by setting the group ID of both run-time
    folders (`chmod g+rwxs`): then the group keeps the permissions that these folders give it.
    """
    umask = _umask_of(settings.artifacts_dir) | _umask_of(settings.data_dir)
    before = os.umask(umask)
    if _Before.umask is None:
        _Before.umask = before
    for path in _secrets(settings):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & umask:
                path.chmod(stat.S_IMODE(status.st_mode) & ~umask)


@contextlib.contextmanager
def as_the_user_asked() -> Iterator[None]:
    """Give files outside the workspace, such as an export, the permissions of the user's umask."""
    ours = os.umask(OWNER_ONLY)
    os.umask(ours if _Before.umask is None else _Before.umask)
    try:
        yield
    finally:
        os.umask(ours)


def _umask_of(folder: Path) -> int:
    try:
        mode = folder.stat().st_mode
    except OSError:
        return OWNER_ONLY
    return NO_OTHERS | (~mode & GROUP) if mode & stat.S_ISGID else OWNER_ONLY


def _secrets(settings: Settings) -> Iterator[Path]:
    yield HOME / ".env"
    for pattern in SECRETS:
        yield from settings.artifacts_dir.glob(pattern)
    for pattern in SHARED_LOCKS:
        yield from settings.data_dir.glob(pattern)
