"""Permissions that also apply to root, because tests may run as root."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

# From linux/capability.h: version 3, and the capabilities that let root read and write anything.
VERSION = 0x20080522
READ_AND_WRITE_ALL = 1 << 1 | 1 << 2


@contextlib.contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """Change a path's permissions for the duration of a block; they apply to this thread."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        with _without_privileges():
            yield
    finally:
        path.chmod(before)


@contextlib.contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Take away all permissions to write below folders, as on a read-only disk, for a block.

    They apply to processes that give up their privileges.
    """
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    before = {path: path.stat().st_mode for path in paths if not path.is_symlink()}
    try:
        for path, bits in before.items():
            path.chmod(bits & ~0o222)
        yield
    finally:
        for path, bits in before.items():
            path.chmod(bits)


def give_up_privileges() -> None:
    """Make permissions apply to this process and those that it forks, for good."""
    if os.geteuid() == 0:
        _set_capabilities(without=READ_AND_WRITE_ALL)


@contextlib.contextmanager
def _without_privileges() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    _set_capabilities(without=READ_AND_WRITE_ALL)
    try:
        yield
    finally:
        _set_capabilities(without=0)


def _set_capabilities(without: int) -> None:
    """Make the permitted capabilities effective, but for some; they apply to this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    # Two triples of effective, permitted and inheritable ones.
    sets[0], sets[3] = sets[1] & ~without, sets[4]
    assert libc.capset(header, sets) == 0
