"""The content-addressed store: the one place that knows where things lie.

A bundle is a folder of files with a manifest.json that lists each file's SHA-256 and size. It is
named by the SHA-256 of its manifest. It is written under a temporary name, flushed to disk, and
renamed, so that whatever is visible under its final name is whole.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from digits.errors import DamagedError, DigitsError
from digits.locks import hold, is_free
from digits.references import Kind, Reference
from digits.settings import Settings

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"
DAMAGED = ".damaged-"
DISK_REFUSES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)
PREPARED_KINDS = frozenset({"datasets", "arrays"})


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


class Draft:
    """A bundle that is being written; `digest` is known once the writing ended well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = ""


class Store:
    """Bundles on the local disk, under `data/prepared` and `artifacts`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verified: dict[Path, tuple[int, int, int]] = {}

    def root(self, kind: Kind) -> Path:
        """The folder that holds all bundles of one kind."""
        prepared = kind in PREPARED_KINDS
        base = self._settings.prepared_dir if prepared else self._settings.artifacts_dir
        return base / kind

    def folder(self, reference: Reference) -> Path:
        """Where a bundle lies; whether it is there and whole, `verify` tells."""
        return self.root(reference.kind) / reference.digest

    @contextlib.contextmanager
    def create(self, kind: Kind) -> Iterator[Draft]:
        """Write files into `draft.path`; on leaving, they become one visible bundle, or nothing.

        Raises DigitsError when the disk refuses (full, read-only, no permission).
        """
        root = self.root(kind)
        name = f"{TEMPORARY}{uuid.uuid4().hex}"
        lock = root / f"{name}.lock"
        try:
            root.mkdir(parents=True, exist_ok=True)
            with hold(lock):
                draft = Draft(root / name)
                draft.path.mkdir()
                try:
                    yield draft
                    draft.digest = _seal(draft.path)
                    self._publish(draft.path, root / draft.digest)
                finally:
                    shutil.rmtree(draft.path, ignore_errors=True)
                    lock.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in DISK_REFUSES:
                raise
            raise DigitsError(
                f"cannot write to {root}: {error.strerror} - nothing half-written was kept; "
                "make room or give write permission, then run again"
            ) from error

    def verify(self, reference: Reference) -> None:
        """Check every byte of a bundle against its digest.

        A file whose identity, size and modification time are those of a check that this process
        made already is not read again. Raises DamagedError naming the file and the difference.
        """
        folder = self.folder(reference)
        manifest_path = folder / MANIFEST
        self._check(manifest_path, reference.digest)
        manifest = json.loads(manifest_path.read_bytes())
        for name, facts in manifest["files"].items():
            self._check(folder / name, facts["sha256"])
        for path in folder.iterdir():
            if path.name != MANIFEST and path.name not in manifest["files"]:
                raise DamagedError(f"{path} is not in the bundle's manifest")

    def is_whole(self, reference: Reference) -> bool:
        """Whether a bundle is there with every byte as it was written."""
        try:
            self.verify(reference)
        except DamagedError:
            return False
        return True

    def sweep(self) -> None:
        """Remove what writers that were killed left behind; the living keep theirs."""
        roots = {self.root(kind) for kind in get_args(Kind)}
        for lock in (path for root in roots for path in root.glob(f"{TEMPORARY}*.lock")):
            if is_free(lock):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)

    def _check(self, path: Path, expected: str) -> None:
        try:
            status = path.stat()
            signature = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._verified.get(path) == signature:
                return
            found = file_digest(path)
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error
        if found != expected:
            raise DamagedError(
                f"{path} was altered: its SHA-256 is {found[:12]}, not {expected[:12]} as written"
            )
        self._verified[path] = signature

    def _publish(self, draft: Path, final: Path) -> None:
        """Give a sealed draft its final name, in place of a damaged bundle if there is one."""
        if final.exists():
            if _is_equal(draft, final):
                return
            final.rename(final.with_name(f"{DAMAGED}{uuid.uuid4().hex}"))
            logger.warning("%s was damaged and is written anew", final)
        try:
            draft.rename(final)
        except OSError:
            # Another process may have published the same content in between.
            if not _is_equal(draft, final):
                raise
        flush(final.parent)
        for damaged in final.parent.glob(f"{DAMAGED}*"):
            shutil.rmtree(damaged, ignore_errors=True)


def _seal(folder: Path) -> str:
    """Write the manifest of a folder's files, flush all of it; the manifest's SHA-256."""
    files = {}
    for path in sorted(folder.iterdir()):
        flush(path)
        files[path.name] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
    manifest = json.dumps({"files": files}, indent=1, sort_keys=True).encode()
    with (folder / MANIFEST).open("xb") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    flush(folder)
    return hashlib.sha256(manifest).hexdigest()


def _is_equal(draft: Path, final: Path) -> bool:
    try:
        names = {path.name for path in draft.iterdir()}
        return names == {path.name for path in final.iterdir()} and all(
            file_digest(draft / name) == file_digest(final / name) for name in names
        )
    except OSError:
        return False
