"""A terminal as the error stream, because progress bars are shown only in a terminal."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass
class Terminal:
    """The text written to a terminal, with control sequences; complete after the block."""

    text: str = ""


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Make sys.stderr a terminal for the duration of a block."""
    ours, theirs = os.openpty()
    shown, chunks = Terminal(), []

    def read() -> None:
        # Reading raises OSError once nobody has the terminal open for writing.
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
