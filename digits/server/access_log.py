"""The access log: one line of JSON per request, written by a thread.

A terminal that is stopped, a pipe that nobody reads and a full disk delay or lose lines, which are
counted, but no answer.
"""

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from io import RawIOBase
from typing import Any

import orjson

# Lines that wait to be written; a second or two of a busy server.
MAX_LINES = 10_000
PAUSE = 0.2


class AccessLog:
    """Writes lines to a stream without a buffer; `lose` is told how many could not be written.

    A buffer would be locked by the thread that waits for it, and Python could not end.
    """

    def __init__(self, stream: RawIOBase, lose: Callable[[int], Any]) -> None:
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
        """Write what waits, for up to a second, and close the stream."""
        self._is_closed.set()
        self._thread.join(timeout=1)

    def _write_forever(self) -> None:
        with self._stream:
            while not self._is_closed.wait(PAUSE):
                self._write_waiting()
            self._write_waiting()

    def _write_waiting(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            text = b"".join(_line(facts) for facts in lines)
            while text:
                text = text[self._stream.write(text) :]
        except (OSError, ValueError, TypeError):  # full, gone, closed, or not text
            self._lose(len(lines))


def _line(facts: dict[str, Any]) -> bytes:
    time = datetime.fromtimestamp(facts["time"], UTC).isoformat(timespec="milliseconds")
    return orjson.dumps(facts | {"time": time}, option=orjson.OPT_APPEND_NEWLINE)
