"""Stop a command on Ctrl-C or SIGTERM: cleanly if that is quick, immediately otherwise."""

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
# Library calls cannot be interrupted, and Prefect waits for a lost server. Exiting immediately is
# always safe: it only leaves the run unfinished in Prefect's dashboard for a while.
GRACE_SECONDS = 10
# Nothing else uses this signal, and without a handler it does nothing.
WAKING = signal.SIGURG
# The sockets that Python writes each signal to. A garbage-collected one would be closed while it is
# still in use, and Python would complain at every signal until the process ends.
_in_use: list[socket.socket] = []
# The exit codes of the signals that ended a block.
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """Raised by the first signal; `code` is the exit code that shells use for it."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block at the first SIGINT or SIGTERM; the process ends soon after.

    A second signal ends the process immediately, even outside the block. Ignored signals, as in a
    shell's background jobs, stay ignored.
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


def received() -> int | None:
    """Return the exit code of the signal that is ending this process, or None.

    A library may answer Interrupted with an exception of its own, which is no error then.
    """
    return _received[-1] if _received else None


def _interrupt(number: int, _: Any) -> None:
    code = 128 + number
    _received.append(code)
    for other in SIGNALS:
        signal.signal(other, lambda *_: _leave(code))
    timer = threading.Timer(GRACE_SECONDS, _leave, [code])
    timer.daemon = True
    timer.start()
    logger.warning(
        "%s: stopping; finished steps and epochs are kept, and the same command resumes from there",
        signal.Signals(number).name,
    )
    raise Interrupted(code)


def _leave(code: int) -> None:
    console().show_cursor()
    os._exit(code)


def _keep_waking() -> Callable[[], None]:
    """Wake the main thread at each signal from now on; return a function that stops this.

    The kernel may deliver a signal to any thread. Python's handler then waits for the main thread,
    which may sleep until the longest training ends. The thread started here is notified of every
    signal.
    """
    hearing, telling = socket.socketpair()
    telling.setblocking(False)
    _in_use.append(telling)
    before = signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wake_main_thread, args=(hearing,), daemon=True).start()

    def stop() -> None:
        signal.set_wakeup_fd(before)
        _in_use.remove(telling)
        telling.close()

    return stop


def _wake_main_thread(hearing: socket.socket) -> None:
    main = threading.main_thread().ident
    assert main is not None  # noqa: S101  (the main thread has started)
    with hearing:
        while heard := hearing.recv(1):
            if heard[0] != WAKING:
                for _ in range(5):  # in case it is just about to sleep
                    signal.pthread_kill(main, WAKING)
                    time.sleep(0.1)
