"""Who uses the prepared data: several workspaces can share it, each with its own artifacts.

The list of users and the lock lie beside the data that they guard, in data/prepared. A user is
listed by the path of its artifacts folder from there, so that a workspace can be moved as a whole,
and by its identity: on another machine or in a container, another workspace can have the same path.
"""

import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from digits.settings import Settings
from digits.storage.files import write_whole
from digits.storage.locks import hold

IDENTITY = "workspace.id"


def data_lock(settings: Settings) -> Path:
    """Return the path of the lock that runs share and garbage collection takes exclusively."""
    return settings.prepared_dir / "runs.lock"


@contextlib.contextmanager
def using_data(settings: Settings, waiting: str = "") -> Iterator[None]:
    """List this workspace as a user of the prepared data, and keep others from deleting any."""
    with hold(data_lock(settings), waiting, shared=True):
        path, text = _entry(settings)
        mark = path.with_suffix(f".{_own_identity(settings)}.id")
        for file, content in ((path, text), (mark, b"")):
            if not file.exists():
                write_whole(file, content)
        yield


def other_users(settings: Settings) -> dict[Path, Path]:
    """Return the artifacts folders of other workspaces, by the file that lists each."""
    mine, _ = _entry(settings)
    return {path: artifacts for path, artifacts in _listed(settings).items() if path != mine}


def hidden_users(settings: Settings) -> dict[Path, Path]:
    """Return where workspaces are listed that are not there, by the file that lists each.

    Another workspace, or none, has the same path on this machine.
    """
    hidden = {}
    for path, artifacts in _listed(settings).items():
        here = _identity(artifacts)
        for mark in sorted(path.parent.glob(f"{path.stem}.*.id")):
            if mark.suffixes[-2] != f".{here}":
                hidden[mark] = artifacts
    return hidden


def listed_since(settings: Settings) -> float:
    """Return since when users are listed, in seconds since 1970: now if there is no list yet."""
    times = [path.stat().st_mtime for path in _listed(settings)]
    return min(times, default=time.time())


def _listed(settings: Settings) -> dict[Path, Path]:
    """The artifacts folders of all users, by the file with the path of each."""
    here = settings.prepared_dir.resolve()
    entries = sorted((settings.prepared_dir / "users").glob("*.path"))
    return {path: here / os.fsdecode(path.read_bytes()) for path in entries}


def _entry(settings: Settings) -> tuple[Path, bytes]:
    """The file that lists this workspace, and its content."""
    there = os.path.relpath(settings.artifacts_dir.resolve(), settings.prepared_dir.resolve())
    content = os.fsencode(there)
    name = f"{hashlib.sha256(content).hexdigest()[:16]}.path"
    return settings.prepared_dir / "users" / name, content


def _own_identity(settings: Settings) -> str:
    """Return what tells this workspace from all others; it is chosen when first needed."""
    path = settings.artifacts_dir / IDENTITY
    if not path.exists():
        lock = settings.artifacts_dir / "locks" / "identity.lock"
        with hold(lock):
            if not path.exists():
                write_whole(path, uuid.uuid4().hex.encode())
            lock.unlink()
    return path.read_text(encoding="utf-8")


def _identity(artifacts: Path) -> str | None:
    try:
        return (artifacts / IDENTITY).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
