"""Surrounds each request: asks for the key, measures, counts and logs."""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digits.server.access import Keys
from digits.server.access_log import AccessLog
from digits.server.context import Context

OTHER = "other"
CLOSE = (b"connection", b"close")


class Recorder:
    """An ASGI app that passes requests on and records their ends."""

    def __init__(
        self, app: ASGIApp, context: Context, keys: Keys | None, log: AccessLog | None
    ) -> None:
        self._app = app
        self._context = context
        self._keys = keys
        self._log = log
        self._counters: dict[tuple[str, int], Any] = {}
        self._timers: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            if scope["type"] == "lifespan" and self._log is not None:
                self._log.close()
            return
        begin, status = time.perf_counter(), 500

        async def record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._context.is_draining:
                    message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        try:
            refusal = self._keys and self._keys.refusal(scope["path"], scope["headers"])
            await (refusal or self._app)(scope, receive, record)
        finally:
            self._record(scope, status, time.perf_counter() - begin)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = OTHER if route is None else route.path
        key = (path, status)
        if key not in self._counters:
            self._counters[key] = self._context.metrics.requests.labels(path, str(status))
            self._timers[path] = self._context.metrics.seconds.labels(path)
        self._counters[key].inc()
        self._timers[path].observe(seconds)
        if self._log is not None:
            client = scope.get("client")
            self._log.write(
                {
                    "time": time.time(),
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                    "client": client[0] if client else None,
                    **scope.get("digits.log", {}),
                }
            )
