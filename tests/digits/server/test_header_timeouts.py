import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from digits.server.header_timeouts import AnyUser, OwnUser

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answer(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture(params=[AnyUser, OwnUser])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that waits a tenth of a second for requests."""
    config = uvicorn.Config(
        answer, http=request.param, lifespan="off", log_level="error", timeout_keep_alive=0.1
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=[[listener]])
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first", "next"])
@pytest.mark.parametrize("sent", [b"", REQUEST[:-10]], ids=["nothing", "a part"])
def test_a_connection_without_a_complete_request_is_closed(
    before: bytes, sent: bytes, port: int
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        if before:
            connection.sendall(before)
            assert connection.recv(1000).startswith(b"HTTP/1.1 204")
        connection.sendall(sent)
        assert connection.recv(1000) == b""  # closed: otherwise, this waits for a minute


def test_complete_requests_are_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(3):
            connection.sendall(REQUEST[:20])
            connection.sendall(REQUEST[20:])
            assert connection.recv(1000).startswith(b"HTTP/1.1 204")
