"""The access log: one line of JSON per request, written by a thread.

A terminal that is stopped, a pipe that nobody reads and a full disk delay or lose lines, which are
counted, but no answer.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson

# Lines that wait to be written; a second or two of a busy server.
MAX_LINES = 10_000
PAUSE = 0.2


class AccessLog:
    """Writes lines to a stream until it is closed; `lose` is told how many could not be written."""

    def __init__(self, stream: BinaryIO, lose: Callable[[int], Any]) -> None:
        self._stream = stream
        self._lose = lose
        self._lines: deque[dict[str, Any]] = deque()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="access-log", daemon=True)
        self._thread.start()

    def write(self, facts: dict[str, Any]) -> None:
        """Add a line."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(facts)
        else:
            self._lose(1)

    def close(self) -> None:
        """Write what waits, for up to a second, and end."""
        self._is_closed.set()
        self._thread.join(timeout=1)

    def _write_forever(self) -> None:
        while not self._is_closed.wait(PAUSE):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        text = b"".join(_line(facts) for facts in lines)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # full, gone, or closed
            self._lose(len(lines))
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()


def _line(facts: dict[str, Any]) -> bytes:
    time = datetime.fromtimestamp(facts["time"], UTC).isoformat(timespec="milliseconds")
    return orjson.dumps(facts | {"time": time}, option=orjson.OPT_APPEND_NEWLINE)
