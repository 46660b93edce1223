"""Who uses the prepared data: several workspaces can share it, each with its own artifacts.

The list of users and the lock lie beside the data that they guard, in data/prepared. A user is
listed by the path of its artifacts folder from there, so that a workspace can be moved as a whole.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from digits.settings import Settings
from digits.storage.files import write_whole
from digits.storage.locks import hold


def data_lock(settings: Settings) -> Path:
    """Return the path of the lock that runs share and garbage collection takes exclusively."""
    return settings.prepared_dir / "runs.lock"


@contextlib.contextmanager
def using_data(settings: Settings, waiting: str = "") -> Iterator[None]:
    """List this workspace as a user of the prepared data, and keep others from deleting any."""
    with hold(data_lock(settings), waiting, shared=True):
        path, text = _entry(settings)
        if not path.exists():
            write_whole(path, text)
        yield


def other_users(settings: Settings) -> dict[Path, Path]:
    """Return the artifacts folders of other workspaces, by the file that lists each."""
    mine, _ = _entry(settings)
    entries = sorted(path for path in mine.parent.glob("*.path") if path != mine)
    here = settings.prepared_dir.resolve()
    return {path: here / os.fsdecode(path.read_bytes()) for path in entries}


def _entry(settings: Settings) -> tuple[Path, bytes]:
    """The file that lists this workspace, and its content."""
    there = os.path.relpath(settings.artifacts_dir.resolve(), settings.prepared_dir.resolve())
    content = os.fsencode(there)
    name = f"{hashlib.sha256(content).hexdigest()[:16]}.path"
    return settings.prepared_dir / "users" / name, content
