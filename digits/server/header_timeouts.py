"""Server protocols that close connections on which no complete request arrives.

uvicorn waits forever for the first request of a connection, and for the rest of a begun one.
"""

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from digits.server.own_user import OwnUserProtocol


class _HeaderTimeout:
    """Starts uvicorn's timer of idle connections whenever the next request is not there yet."""

    def connection_made(self: Any, transport: Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.await_request()

    def data_received(self: Any, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]
        self.await_request()

    def await_request(self: Any) -> None:
        has_none = self.cycle is None or self.cycle.response_complete
        if self.transport is not None and has_none and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


class AnyUser(_HeaderTimeout, AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP for everyone who has the key."""


class OwnUser(_HeaderTimeout, OwnUserProtocol):
    """HTTP for this user and root."""
