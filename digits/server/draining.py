"""A graceful end: first the server says that it is not ready, then it ends.

Whoever sends requests here, such as a load balancer, needs a moment to notice. Until then the
server answers as before, but closes each connection after the answer.
"""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from digits.server.context import Context


@contextlib.contextmanager
def draining(context: Context) -> Iterator[None]:
    """Drain after a SIGTERM in this block, before the server's own handler ends it.

    Does nothing outside the main thread, which gets no signals.
    """
    loop = asyncio.get_running_loop()
    ends = signal.getsignal(signal.SIGTERM)

    def drain(*arguments: Any) -> None:
        if context.is_draining:
            return
        context.is_draining = True
        if callable(ends):
            wait = (context.options.drain_seconds, ends, *arguments)
            loop.call_soon_threadsafe(loop.call_later, *wait)

    try:
        signal.signal(signal.SIGTERM, drain)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ends)
