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
def _without_privileges() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, kept = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, kept) == 0
    fewer = type(kept)(*kept)
    fewer[0] &= ~READ_AND_WRITE_ALL
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, kept) == 0
