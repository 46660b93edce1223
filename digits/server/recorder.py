"""Surrounds each request: asks for the key, measures, counts and logs."""

import time
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digits.server.access import Keys
from digits.server.access_log import AccessLog
from digits.server.bodies import MAX_BYTES
from digits.server.context import Context
from digits.server.refusals import CLOSE as CLOSING
from digits.server.refusals import json_answer

OTHER = "other"
CLOSE = (b"connection", b"close")
# Bodies of the requests under way, as they were announced; with more, memory could run out.
MAX_HELD_BYTES = 32 * MAX_BYTES


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
        self._num_held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            if scope["type"] == "lifespan" and self._log is not None:
                self._log.close()
            return
        begin, status = time.perf_counter(), 500
        num_bytes = _announced_bytes(scope)
        self._num_held_bytes += num_bytes

        async def record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._context.is_draining:
                    message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, record)
        finally:
            self._num_held_bytes -= num_bytes
            self._record(scope, status, time.perf_counter() - begin)

    def _refusal(self, scope: Scope) -> Response | None:
        refusal = None
        if self._keys is not None:
            refusal = self._keys.refusal(scope["path"], scope["headers"])
        if refusal is None and self._num_held_bytes > MAX_HELD_BYTES:
            error = {"error": "too many large requests at once; try again"}
            return json_answer(error, 503, {"Retry-After": "1", **CLOSING})
        return refusal

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


def _announced_bytes(scope: Scope) -> int:
    """Return the size of a request's body, or the largest that is allowed if it does not say."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return min(int(value), MAX_BYTES)
        if name == b"transfer-encoding":
            return MAX_BYTES
    return 0
