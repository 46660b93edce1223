"""A bundle: a folder of files with a manifest that lists each file's SHA-256 and size."""

import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from digits.errors import DamagedError
from digits.storage.files import file_digest, flush
from digits.storage.references import Digest, Frozen

MANIFEST = "manifest.json"

# Two writes within one tick of the kernel's clock leave the same change time, so a file that has
# just changed could change again unnoticed. The coarsest file system clock ticks every two seconds.
SETTLED_NS = 2 * 10**9


class FileFacts(Frozen):
    """The digest and size of one file in a manifest."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Frozen):
    """The files of a bundle, by names that cannot point outside its folder."""

    files: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")], FileFacts]

    def dump(self) -> bytes:
        """Serialize to canonical JSON: equal manifests give equal bytes."""
        return json.dumps(self.model_dump(), indent=1, sort_keys=True).encode()


def seal_folder(folder: Path) -> str:
    """Write a manifest of the folder's files, flush everything, and return its SHA-256."""
    files = {}
    for path in sorted(folder.iterdir()):
        flush(path)
        files[path.name] = FileFacts(sha256=file_digest(path), bytes=path.stat().st_size)
    manifest = Manifest(files=files).dump()
    with (folder / MANIFEST).open("xb") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    flush(folder)
    return hashlib.sha256(manifest).hexdigest()


class Inspector:
    """Checks bundles; files untouched since their last check are not read again."""

    def __init__(self) -> None:
        self._verified: dict[Path, tuple[object, ...]] = {}

    def inspect(self, folder: Path, digest: str, limit: int | None = None) -> list[str]:
        """Check every file of a folder against the manifest with this digest.

        For files larger than `limit` bytes only the size is checked; returns their names. Raises
        DamagedError naming the file and the difference.
        """
        try:
            return self._inspect(folder, digest, limit)
        except OSError as error:
            path = error.filename or folder
            raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error

    def read(self, folder: Path, digest: str, name: str) -> bytes:
        """Return a file's content after checking it against the manifest with this digest.

        Raises DamagedError like `inspect`.
        """
        path = folder / name
        try:
            facts = _read_manifest(folder / MANIFEST, digest).files.get(name)
            if facts is None:
                raise DamagedError(f"{path} is not listed in the bundle's manifest")
            _measure(path, facts)
            content = path.read_bytes()
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != facts.sha256:
            raise _altered(path, found, facts.sha256)
        return content

    def _inspect(self, folder: Path, digest: str, limit: int | None) -> list[str]:
        manifest = _read_manifest(folder / MANIFEST, digest)
        measured = []
        for name, facts in manifest.files.items():
            if limit is not None and facts.bytes > limit:
                _measure(folder / name, facts)
                measured.append(name)
            else:
                self._check(folder / name, facts)
        for path in folder.iterdir():
            if path.name != MANIFEST and path.name not in manifest.files:
                raise DamagedError(f"{path} is not listed in the bundle's manifest")
        return measured

    def _check(self, path: Path, facts: FileFacts) -> None:
        status = _measure(path, facts)
        # Unlike the modification time, the change time cannot be set back after an edit.
        signature = (facts.sha256, status.st_dev, status.st_ino, status.st_ctime_ns)
        if self._verified.get(path) == signature:
            return
        found = file_digest(path)
        if found != facts.sha256:
            raise _altered(path, found, facts.sha256)
        if time.time_ns() - status.st_ctime_ns > SETTLED_NS:
            self._verified[path] = signature


def parse_manifest(content: bytes, digest: str, place: Path | str) -> Manifest:
    """Return the manifest with this digest. Raises DamagedError naming `place`."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise _altered(place, found, digest)
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise DamagedError(f"{place} is not a valid bundle manifest: {problem}") from error


def _read_manifest(path: Path, digest: str) -> Manifest:
    _status(path)
    return parse_manifest(path.read_bytes(), digest, path)


def _measure(path: Path, facts: FileFacts) -> os.stat_result:
    status = _status(path)
    if status.st_size != facts.bytes:
        raise DamagedError(f"{path} has {status.st_size} bytes (expected {facts.bytes})")
    return status


def _status(path: Path) -> os.stat_result:
    # Links are not followed: they could point anywhere. Reading a pipe could block forever.
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError(f"{path} is not a regular file")
    return status


def _altered(path: Path | str, found: str, expected: str) -> DamagedError:
    return DamagedError(
        f"{path} is corrupted: its SHA-256 is {found[:12]} (expected {expected[:12]})"
    )
