"""Separating Python's own stderr output from what C++ libraries write to descriptor 2."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NATIVE = 2


def separate_error_stream() -> None:
    """Give sys.stderr its own descriptor, so that only native code writes to descriptor 2.

    Native output can then be kept off the terminal without losing Python's. A crash in C++ still
    shows the Python stack. Does nothing if sys.stderr was replaced.
    """
    original = sys.__stderr__
    if original is None or sys.stderr is not original:
        return
    sys.stderr = os.fdopen(
        os.dup(NATIVE), "w", buffering=1, encoding=original.encoding, errors="backslashreplace"
    )
    faulthandler.enable(sys.stderr)


@contextlib.contextmanager
def native_errors_in(path: Path) -> Iterator[None]:
    """Redirect descriptor 2 to a file during the block, overwriting the file.

    Redirects nothing if Python writes there too: its errors belong on the terminal. Where the file
    cannot be written, what native code says is lost.
    """
    if not _is_separate():
        yield
        return
    terminal = os.dup(NATIVE)
    try:
        with _opened(path) as file:
            os.dup2(file.fileno(), NATIVE)
        yield
    finally:
        os.dup2(terminal, NATIVE)
        os.close(terminal)


def _opened(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError:  # a read-only workspace
        return Path(os.devnull).open("wb")


def _is_separate() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.fileno() != NATIVE
    except OSError:
        return False
