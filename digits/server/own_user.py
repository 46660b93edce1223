"""A server protocol for one user: other users of this machine are refused."""

from asyncio import Protocol, Transport

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from digits.server.connections import is_own_user

OTHER_USER = b"Refused: this service belongs to another user of this machine\n"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"


class OwnUserProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP and WebSockets for this user and root: others could start runs as this user."""

    def connection_made(self, transport: Transport) -> None:
        """Close the connection at once if another user of this machine opened it."""
        peer, here = (transport.get_extra_info(end) for end in ("peername", "sockname"))
        if is_own_user(peer[:2], here[:2]):
            super().connection_made(transport)
        else:
            transport.set_protocol(Protocol())
            transport.write(REFUSAL % (len(OTHER_USER), OTHER_USER))
            transport.close()
