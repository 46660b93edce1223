"""A terminal as the error stream, as bars need one to show themselves."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass
class Terminal:
    """What was written to a terminal, with its control sequences; whole after the block."""

    text: str = ""


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Make sys.stderr a terminal for the length of a block."""
    ours, theirs = os.openpty()
    shown, chunks = Terminal(), []

    def read() -> None:
        # The end of a terminal that nobody writes to any more is an error.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 4096):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(theirs, "w", encoding="utf-8") as stream:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_COLOR", "1")
        patch.setattr(sys, "stderr", stream)
        yield shown
    reader.join()
    os.close(ours)
    shown.text = b"".join(chunks).decode()
