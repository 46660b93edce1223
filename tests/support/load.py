"""Many requests to a model server, each answer checked against the version that it names."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.support.handwriting import NUM_CLASSES, SHAPE
from tests.support.model_server import INFER

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Probabilities = npt.NDArray[np.float32]
NUM_PICTURES = 20
# Batches of other sizes round differently.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Answer:
    """When a request began and ended, and the version that answered."""

    begin: float
    end: float
    version: int


@dataclass
class Load:
    """Sends `num_requests` over several connections; `favored` are the labels of the versions.

    A request whose connection was closed is sent again; `num_closed` counts these.
    """

    port: int
    num_requests: int
    favored: Mapping[int, int]
    num_connections: int = 32
    answers: list[Answer] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    num_closed: int = 0
    _num_sent: int = 0

    @property
    def num_answered(self) -> int:
        """The number of answers so far."""
        return len(self.answers) + len(self.wrong)

    def run(self) -> None:
        """Send all requests, and wait for the answers."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        bodies = [_request(number) for number in range(NUM_PICTURES)]
        await asyncio.gather(*(self._send_many(bodies) for _ in range(self.num_connections)))

    async def _send_many(self, bodies: list[bytes]) -> None:
        streams: Streams | None = None
        while self._num_sent < self.num_requests:
            number = self._num_sent
            self._num_sent += 1
            begin, answer = time.monotonic(), None
            while answer is None:
                try:
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", self.port)
                    answer = await _ask(*streams, bodies[number % NUM_PICTURES])
                except (OSError, asyncio.IncompleteReadError):
                    self.num_closed += 1
                    await _close(streams)
                    streams = None
            self._check(number % NUM_PICTURES, begin, *answer)
        await _close(streams)

    def _check(self, picture: int, begin: float, head: bytes, body: bytes) -> None:
        headers = _headers(head)
        if not head.startswith(b"HTTP/1.1 200 "):
            self.wrong.append(f"{head!r} {body!r}")
            return
        version = int(headers["x-model-version"])
        size = int(headers["inference-header-content-length"])
        said = json.loads(body[:size])["model_version"]
        scores = np.frombuffer(body[size:], "<f4")
        expected = expected_scores(picture, self.favored[version])
        if said != str(version) or not np.allclose(scores, expected, atol=TOLERANCE):
            self.wrong.append(f"version {version}, in the body {said}: {scores}")
            return
        self.answers.append(Answer(begin, time.monotonic(), version))


def expected_scores(picture: int, favored: int, strength: float = 3.0) -> Probabilities:
    """Return what a made-up model says about a picture; see served_versions.onnx_bytes."""
    scores = np.zeros(NUM_CLASSES, np.float64)
    scores[favored] = strength + _ink(picture)
    powers = np.exp(scores)
    probabilities: Probabilities = (powers / powers.sum()).astype(np.float32)
    return probabilities


def _ink(picture: int) -> float:
    return picture / NUM_PICTURES


def _request(picture: int) -> bytes:
    data = np.full(SHAPE, _ink(picture), "<f4").tobytes()
    tensor = {
        "name": "image",
        "shape": [1, *SHAPE],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = [
        f"POST {INFER} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + len(data)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + data


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[bytes, bytes]:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(_headers(head)["content-length"]))
    return head, body


async def _close(streams: Streams | None) -> None:
    if streams is not None:
        streams[1].close()
        with contextlib.suppress(OSError):
            await streams[1].wait_closed()


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines if line)


Change = Callable[[], int]
"""Changes the champion, and returns the number of the new one."""


@dataclass
class Period:
    """A champion: the times when its change began, and when all workers had it in service."""

    version: int
    begin: float
    settled: float


def unexpected(answers: list[Answer], periods: list[Period]) -> list[Answer]:
    """Return the answers of versions that were not in service at any time of their requests.

    A version is in service from the beginning of its change until the next one has settled.
    """
    ends = [*(period.settled for period in periods[1:]), float("inf")]
    return [
        answer
        for answer in answers
        if not any(
            period.version == answer.version and period.begin <= answer.end and answer.begin <= end
            for period, end in zip(periods, ends, strict=True)
        )
    ]
