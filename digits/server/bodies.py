"""Reads the body of a request, up to a size and for a time."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import Receive

from digits.server.refusals import CLOSE, Refusal

MAX_BYTES = 16 * 1024**2
# A client that sends its body more slowly keeps memory, and holds up the end of the server.
SECONDS = 30.0


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """Return the complete body of a request.

    Raises Refusal if it is larger than 16 MiB, encoded, or not complete after 30 seconds.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "compressed bodies are not supported; send it without Content-Encoding")
    if int(headers.get("content-length", "0")) > MAX_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(SECONDS):
            return await _read(receive)
    except TimeoutError:
        raise Refusal(
            408, f"the body was not complete after {SECONDS:g} seconds; send less at once", CLOSE
        ) from None


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    # Nearly all bodies are complete with the first message.
    pieces = bytearray(body) if message.get("more_body") else body
    while message.get("more_body") and len(pieces) <= MAX_BYTES:
        message = await receive()
        pieces += message.get("body", b"")
    if len(pieces) > MAX_BYTES:
        raise _too_large()
    return bytes(pieces)


def _too_large() -> Refusal:
    return Refusal(
        413, f"the body is larger than {MAX_BYTES:,} bytes; divide it among several requests", CLOSE
    )
