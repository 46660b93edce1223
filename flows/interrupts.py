"""Ending a command by Ctrl-C or SIGTERM: in good order if that is soon had, at once otherwise."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from digits.progress import console

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Libraries cannot be stopped in the middle, and a lost server is waited for. Ending at once is
# safe at any moment: it only leaves the run unfinished in Prefect's dashboard for a while.
GRACE_SECONDS = 10
# Nothing else uses it, and without a handler it does nothing.
WAKING = signal.SIGURG


class Interrupted(KeyboardInterrupt):
    """The first signal; `code` is the exit code by which shells tell it."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the block by Interrupted, and the process soon after.

    A second one ends the process at once, also outside of the block. A signal that is ignored, as
    shells have it for what they run in the background, stays so.
    """
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heeded}
    before[WAKING] = signal.signal(WAKING, lambda *_: None)
    stop_waking = _keep_waking()
    try:
        yield
    finally:
        if not isinstance(sys.exception(), Interrupted):
            stop_waking()
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


def _keep_waking() -> Callable[[], None]:
    """Wake the main thread at each signal from now on; what ends that.

    The kernel may hand a signal to any thread. Python's handler then waits for the main thread,
    which sleeps on until the longest training ends. This thread hears of every signal.
    """
    hearing, telling = socket.socketpair()
    telling.setblocking(False)
    before = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wake_main_thread, args=(hearing,), daemon=True).start()

    def stop() -> None:
        signal.set_wakeup_fd(before)
        telling.close()

    return stop


def _wake_main_thread(hearing: socket.socket) -> None:
    main = threading.main_thread().ident
    assert main is not None  # noqa: S101  (it runs as long as there is this thread)
    with hearing:
        while heard := hearing.recv(1):
            if heard[0] != WAKING:
                for _ in range(5):  # since it may just be about to fall asleep
                    signal.pthread_kill(main, WAKING)
                    time.sleep(0.1)
