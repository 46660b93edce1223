"""Live training progress in the dashboard."""

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.exceptions import PrefectHTTPStatusError

from tasks import artifacts

logger = logging.getLogger(__name__)

# Between two updates, to spare the server: an epoch can be shorter than this.
PAUSE_SECONDS = 1.0


class LiveProgress:
    """Shows the latest progress of each training without ever making a training wait.

    A training's bar belongs to the task run that first reported progress.
    """

    def __init__(self) -> None:
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="live progress")
        self._guard = threading.Lock()
        self._newest: dict[str, Callable[[], None]] = {}
        self._bars: dict[str, UUID] = {}
        self._is_sending = False
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send the remaining updates."""
        self._is_over.set()
        self._sender.shutdown()

    def __call__(self, name: str, epoch: int, num_epochs: int, text: str) -> None:
        """Queue an update; it replaces an update of the same training that was not sent yet."""
        if self._is_over.is_set():
            return
        context, share = copy_context(), 100.0 * epoch / num_epochs
        description = f"{name}: epoch {epoch} of {num_epochs}, {text}"
        with self._guard:
            self._newest[name] = lambda: self._show(context, name, share, description)
            if not self._is_sending:
                self._is_sending = True
                self._sender.submit(self._send)

    def _send(self) -> None:
        while show := self._next():
            try:
                show()
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                logger.warning("cannot show training progress in the dashboard: %s", error)
            self._is_over.wait(PAUSE_SECONDS)

    def _next(self) -> Callable[[], None] | None:
        with self._guard:
            self._is_sending = bool(self._newest)
            return self._newest.pop(next(iter(self._newest))) if self._newest else None

    def _show(self, context: Context, name: str, share: float, description: str) -> None:
        bar = self._bars.get(name)
        if bar is None:
            key = re.sub("[^a-z0-9]+", "-", name.lower())
            self._bars[name] = context.run(artifacts.create, "progress", key, share, description)
        else:
            context.run(artifacts.update, bar, share, description)
