"""Ending a command by Ctrl-C or SIGTERM: in good order if that is soon had, at once otherwise."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from digits.progress import console

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Libraries cannot be stopped in the middle, and a lost server is waited for. Ending at once is
# safe at any moment: it only leaves the run unfinished in Prefect's dashboard for a while.
GRACE_SECONDS = 10


class Interrupted(KeyboardInterrupt):
    """The first signal; `code` is the exit code by which shells tell it."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the block by Interrupted, and the process soon after.

    A second one ends the process at once, also outside of the block.
    """
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        if not isinstance(sys.exception(), Interrupted):
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(number: int, _: Any) -> None:
    code = 128 + number
    for other in SIGNALS:
        signal.signal(other, lambda *_: _leave(code))
    timer = threading.Timer(GRACE_SECONDS, _leave, [code])
    timer.daemon = True
    timer.start()
    logger.warning(
        "%s: ending; every finished step and epoch is kept, the same command goes on from there",
        signal.Signals(number).name,
    )
    raise Interrupted(code)


def _leave(code: int) -> None:
    console().show_cursor()
    os._exit(code)
