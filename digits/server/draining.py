"""A graceful end: first the server says that it is not ready, then it ends.

Whoever sends requests here, such as a load balancer, needs a moment to notice. Until then the
server answers as before, but closes each connection after the answer.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

from digits.server.context import Context

PARENT_SECONDS = 1


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
            end = partial(ends, *arguments)
            wait = partial(loop.call_later, context.options.drain_seconds, end)
            loop.call_soon_threadsafe(wait)

    try:
        signal.signal(signal.SIGTERM, drain)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ends)


async def end_with_parent() -> None:
    """End this worker when the process that replaces dead workers has died itself.

    Otherwise it would keep the port, and nobody could end it by the name of the service.
    """
    parent = multiprocessing.parent_process()
    while parent is not None:
        await asyncio.sleep(PARENT_SECONDS)
        if not parent.is_alive():
            os.kill(os.getpid(), signal.SIGTERM)
            return
