"""The error stream, told apart: what Python says, and what libraries in C++ write past it."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

NATIVE = 2


def separate_error_stream() -> None:
    """Give sys.stderr a descriptor of its own, so that descriptor 2 carries what others write.

    Only then can the one be kept from the terminal without the other. A crash in C++ is still
    shown with the place in Python that led to it. Does nothing where sys.stderr was replaced.
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
    """Keep what is written to descriptor 2 during the block in a file, anew each time.

    Where Python writes there too, nothing is kept back: its errors belong on the terminal.
    """
    if not _is_separate():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(NATIVE)
    try:
        with path.open("wb") as file:
            os.dup2(file.fileno(), NATIVE)
        yield
    finally:
        os.dup2(terminal, NATIVE)
        os.close(terminal)


def _is_separate() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.fileno() != NATIVE
    except OSError:
        return False
