"""A proxy in front of an HTTP server that delays, refuses, cuts, slows, alters and counts.

It forwards whole requests and answers unchanged, headers included, so that signatures stay valid.
"""

import asyncio
import contextlib
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

REFUSALS = {
    403: ("Forbidden", "SignatureDoesNotMatch"),
    429: ("Too Many Requests", "TooManyRequests"),
    500: ("Internal Server Error", "InternalError"),
    503: ("Service Unavailable", "SlowDown"),
    507: ("Insufficient Storage", "QuotaExceeded"),
}
DONE = b'HTTP/1.1 200 OK\r\nETag: "made-up"\r\nContent-Length: 0\r\n\r\n'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGEST_HEAD = 2**16


class Request(NamedTuple):
    """A request as the proxy saw it."""

    method: str
    path: str


def every(_: Request) -> bool:
    """Choose every request."""
    return True


@dataclass(frozen=True)
class Faults:
    """What happens to requests: those of `of`, and of these a share, drawn at random.

    All of them are slowed by `latency` seconds, once each.
    """

    of: Callable[[Request], bool] = every
    share: float = 1
    latency: float = 0
    # Bytes a second of an answer's body.
    rate: float | None = None
    # Answer with this status instead of asking the server.
    status: int | None = None
    # Close the connection instead of asking the server.
    cut: bool = False
    # Close it after the server has done what was asked.
    lose_answer: bool = False
    # Ask and answer nothing until this is over, as if packets were lost.
    silent: bool = False
    # Close the connection after so many bytes of the answer's body.
    truncate_at: int | None = None
    # Flip a bit of the first byte of the answer's body.
    flip: bool = False
    # Call a refused conditional write a success, like a store that ignores conditions.
    no_conditions: bool = False
    # By how much the server's clock is behind: in headers, and in lists of objects.
    behind: timedelta = timedelta()
    # Only times before this one are set back by that: what was written since is young.
    only_before: datetime | None = None


@dataclass
class Proxy:
    """A proxy to a port of this machine, listening on `host`.

    `requests` are all so far, and `fetched` counts the bytes of their answers' bodies.
    """

    to_port: int
    host: str = "127.0.0.1"
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)
    fetched: int = 0
    address: str = ""

    def __post_init__(self) -> None:
        self._chance = random.Random(0)

    @contextlib.contextmanager
    def suffering(self, **faults: object) -> Iterator[None]:
        """Have faults during a block; the names are those of `Faults`."""
        before = self.faults
        self.faults = replace(before, **faults)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.faults = before

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[Request]]:
        """Collect the requests of a block; the list is filled when it ends."""
        found: list[Request] = []
        begun = len(self.requests)
        yield found
        found += self.requests[begun:]

    async def listen(self) -> asyncio.Server:
        """Start to listen on a free port."""
        server = await asyncio.start_server(self._serve, self.host, 0, limit=LARGEST_HEAD)
        self.address = f"http://{self.host}:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with _connection(self.to_port) as (server, to_server):
                while await self._forward(client, to_client, server, to_server):
                    pass
        # Not an orderly end, which a client could take for the end of a body.
        to_client.transport.abort()

    async def _forward(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:
        """Forward one request and its answer; return whether the connection goes on."""
        head = await client.readuntil(b"\r\n\r\n")
        # A client that waits with the body until it is asked for it; no signature has this header.
        head, is_waiting = re.subn(rb"(?i)\r\nexpect: *100-continue", b"", head)
        if is_waiting:
            await _send(to_client, CONTINUE, b"")
        body = await _body(client, head)
        method, path = head.decode("latin-1").split(" ", 2)[:2]
        request = Request(method, path)
        self.requests.append(request)
        faults = self._faults_of(request)
        await asyncio.sleep(faults.latency)
        while self._faults_of(request).silent:
            await asyncio.sleep(0.02)
        if faults.cut:
            return False
        if faults.status is not None:
            await _send(to_client, *_refusal(faults.status, method))
            return True
        to_server.write(head + body)
        await to_server.drain()
        head, body = await _answer(server, method)
        self.fetched += len(body)
        if faults.lose_answer:
            return False
        return await _pass_on(to_client, head, body, faults)

    def _faults_of(self, request: Request) -> Faults:
        faults = self.faults
        if faults.of(request) and self._chance.random() < faults.share:
            return faults
        return Faults(latency=faults.latency)


@contextlib.asynccontextmanager
async def _connection(port: int):  # type: ignore[no-untyped-def]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LARGEST_HEAD)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _answer(server: asyncio.StreamReader, method: str) -> tuple[bytes, bytes]:
    head = await server.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    is_empty = method == "HEAD" or status in (204, 304)
    return head, b"" if is_empty else await _body(server, head)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Read the body that follows a head, as it is sent."""
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is not None:
        return await reader.readexactly(int(length[1]))
    body = b""
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        while not body.endswith(b"\r\n0\r\n\r\n") and body != b"0\r\n\r\n":
            size = await reader.readuntil(b"\r\n")
            body += size + await reader.readexactly(int(size.split(b";")[0], 16) + 2)
    return body


async def _pass_on(client: asyncio.StreamWriter, head: bytes, body: bytes, faults: Faults) -> bool:
    if faults.no_conditions and head.startswith(b"HTTP/1.1 412"):
        head, body = DONE, b""
    if faults.behind:
        head, body = _earlier(head, body, faults)
    if faults.flip and body:
        body = bytes([body[0] ^ 1]) + body[1:]
    if faults.truncate_at is not None and len(body) > faults.truncate_at:
        await _send(client, head, body[: faults.truncate_at])
        return False
    if faults.rate is not None:
        await _send(client, head, b"")
        for begin in range(0, len(body), 4096):
            await asyncio.sleep(4096 / faults.rate)
            await _send(client, b"", body[begin : begin + 4096])
        return True
    await _send(client, head, body)
    return True


async def _send(client: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    client.write(head + body)
    await client.drain()


def _earlier(head: bytes, body: bytes, faults: Faults) -> tuple[bytes, bytes]:
    """Set the times in an answer back. Lists of objects keep their length."""

    def shifted(time: datetime) -> datetime:
        is_young = faults.only_before is not None and time >= faults.only_before
        return time if is_young else time - faults.behind

    def header(found: "re.Match[bytes]") -> bytes:
        time = shifted(parsedate_to_datetime(found[2].decode()))
        return found[1] + format_datetime(time, usegmt=True).encode()

    def element(found: "re.Match[bytes]") -> bytes:
        text = found[1].decode()
        time = shifted(datetime.fromisoformat(text))
        return f"<LastModified>{time:%Y-%m-%dT%H:%M:%S}{text[19:]}</LastModified>".encode()

    head = re.sub(rb"(?i)(\r\n(?:date|last-modified): *)([^\r]+)", header, head)
    return head, re.sub(rb"<LastModified>([^<]+)</LastModified>", element, body)


def _refusal(status: int, method: str) -> tuple[bytes, bytes]:
    reason, code = REFUSALS[status]
    body = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>".encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), b"" if method == "HEAD" else body


@contextlib.contextmanager
def proxied(to_port: int, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """Run a proxy in a thread during a block."""
    proxy, loop = Proxy(to_port, host), asyncio.new_event_loop()
    server = loop.run_until_complete(proxy.listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
