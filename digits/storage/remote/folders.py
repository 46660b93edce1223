"""Folders with a manifest, such as bundles, in a store that several machines share.

A folder is uploaded file by file, its manifest last, so whoever finds the manifest finds all of it.
It is downloaded under a temporary name, and every byte is checked before it gets its final one.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from digits.errors import DamagedError
from digits.progress import transfer
from digits.settings import Settings
from digits.storage.bundles import MANIFEST, FileFacts, Inspector, Manifest, parse_manifest
from digits.storage.files import discard
from digits.storage.locks import hold
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.collectors import wait_for_collectors
from digits.storage.remote.objects import Objects

logger = logging.getLogger(__name__)

# How long a folder that was found whole in the store is taken to be there.
TRUSTED_SECONDS = 60.0
# A folder used since then is never removed from the cache: a step may be reading it.
IN_USE_SECONDS = 3600
# Downloads older than this were left by killed processes.
LEFT_SECONDS = 86_400


class SharedFolders:
    """Uploads folders to the store, and downloads them into the cache of this machine."""

    def __init__(self, objects: Objects, settings: Settings) -> None:
        self._objects = objects
        self._cache = settings.results_dir
        self._limit = int(settings.cache_gb * 1e9)
        self._downloads = self._cache / "downloads"
        # Names of folders that were found whole in the store, and when.
        self._whole: dict[str, float] = {}
        # Names of folders with an altered file of the right size.
        self._altered: set[str] = set()

    def upload(self, name: str, folder: Path) -> None:
        """Upload a complete folder; files that are there already are not sent again.

        The manifest is written always, which protects the folder from garbage collection.
        """
        self._complete(name, folder)
        if wait_for_collectors(self._objects, name):
            self._complete(name, folder)
        self._altered.discard(name)
        self._whole[name] = time.monotonic()
        self.trim()

    def ensure(self, name: str, folder: Path) -> None:
        """Upload again what the store has lost of a folder that is whole on this machine."""
        if time.monotonic() - self._whole.get(name, -TRUSTED_SECONDS) < TRUSTED_SECONDS:
            return
        if self._missing(name, folder):
            self.upload(name, folder)
            logger.warning("%s: uploaded again what was missing of %s", self._objects.address, name)
        self._whole[name] = time.monotonic()

    def download(self, name: str, folder: Path, digest: str) -> None:
        """Download the folder whose manifest has this digest, unless its copy here is whole.

        Raises DamagedError if it is missing, incomplete or corrupted in the store.
        """
        # Two steps of a run may need the same folder at once.
        with hold(self._downloads / f"{digest}.lock"):
            try:
                Inspector().inspect(folder, digest)
            except DamagedError:
                self._download_all(name, folder, digest)
        self.trim()

    def _download_all(self, name: str, folder: Path, digest: str) -> None:
        manifest, content = self.manifest(name, digest)
        draft = self._downloads / uuid.uuid4().hex
        draft.mkdir(parents=True)
        try:
            size = sum(facts.bytes for facts in manifest.files.values())
            with transfer(_kind(name), size) as show:
                received = 0
                for file, facts in manifest.files.items():
                    with (draft / file).open("wb") as written:
                        for chunk in self._checked(f"{name}/{file}", facts):
                            written.write(chunk)
                            received += len(chunk)
                            show(received)
            (draft / MANIFEST).write_bytes(content)
            self._put_in_place(draft, folder)
            self._whole[name] = time.monotonic()
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def inspect(self, name: str, digest: str) -> None:
        """Check every byte of a folder in the store, without keeping it here.

        Raises DamagedError naming the file and the difference.
        """
        manifest, _ = self.manifest(name, digest)
        for file, facts in manifest.files.items():
            for _ in self._checked(f"{name}/{file}", facts):
                pass

    def manifest(self, name: str, digest: str) -> tuple[Manifest, bytes]:
        """Return a folder's manifest and its bytes. Raises DamagedError."""
        place = f"{self._objects.address}/{name}/{MANIFEST}"
        found = self._objects.read(f"{name}/{MANIFEST}")
        if found is None:
            raise DamagedError(f"{place} is missing")
        return parse_manifest(found.content, digest, place), found.content

    def glance(self, name: str, digest: str) -> list[str]:
        """Check the sizes of a folder's files in the store; return their names.

        Raises DamagedError.
        """
        manifest, _ = self.manifest(name, digest)
        sizes = self._sizes(name)
        for file, facts in manifest.files.items():
            place = f"{self._objects.address}/{name}/{file}"
            if file not in sizes:
                raise DamagedError(f"{place} is missing")
            if sizes[file] != facts.bytes:
                raise DamagedError(f"{place} has {sizes[file]} bytes (expected {facts.bytes})")
        return list(manifest.files)

    def _complete(self, name: str, folder: Path) -> None:
        """Upload the files that the store lacks, then the manifest."""
        missing = self._missing(name, folder)
        for file in sorted(missing - {MANIFEST}):
            size = (folder / file).stat().st_size
            with (folder / file).open("rb") as content, transfer(_kind(name), size, "sent") as show:
                self._objects.upload(f"{name}/{file}", content, show)
        self._objects.write(f"{name}/{MANIFEST}", (folder / MANIFEST).read_bytes())

    def _missing(self, name: str, folder: Path) -> set[str]:
        """The files of a folder that the store lacks, by their sizes."""
        sealed = (folder / MANIFEST).read_bytes()
        expected = {MANIFEST: len(sealed)}
        for file, facts in Manifest.model_validate_json(sealed).files.items():
            expected[file] = facts.bytes
        sizes = {} if name in self._altered else self._sizes(name)
        return {file for file, size in expected.items() if sizes.get(file) != size}

    def _sizes(self, name: str) -> dict[str, int]:
        listed = self._objects.listed(f"{name}/")
        return {one.name.rpartition("/")[2]: one.size for one in listed}

    def _checked(self, name: str, facts: FileFacts) -> Iterator[bytes]:
        """Yield a file's content in chunks; it is checked when the last one has been consumed."""
        place = f"{self._objects.address}/{name}"
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in self._objects.download(name):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        except FileNotFoundError as error:
            raise DamagedError(f"{place} is missing") from error
        if size != facts.bytes:
            raise DamagedError(f"{place} has {size} bytes (expected {facts.bytes})")
        if digest.hexdigest() != facts.sha256:
            self._altered.add(name.rpartition("/")[0])
            raise DamagedError(
                f"{place} is corrupted: its SHA-256 is {digest.hexdigest()[:12]} (expected "
                f"{facts.sha256[:12]})"
            )

    def _put_in_place(self, draft: Path, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        corrupted = draft.with_name(f"{draft.name}.old")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(corrupted)
        draft.rename(folder)
        shutil.rmtree(corrupted, ignore_errors=True)

    def trim(self) -> None:
        """Remove the folders that were not used for the longest time, until the cache is small."""
        now = time.time()
        for left in self._downloads.glob("*"):
            with contextlib.suppress(OSError):
                if now - left.stat().st_mtime > LEFT_SECONDS:
                    discard(left)
        used = []
        manifests = (self._cache.glob(f"{depth}/{MANIFEST}") for depth in ("*/*", "batches/*/*"))
        for manifest in chain.from_iterable(manifests):
            with contextlib.suppress(OSError):
                folder = manifest.parent
                size = sum(file.stat().st_size for file in folder.iterdir())
                used.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in used)
        for last_use, size, folder in sorted(used):
            if total <= self._limit or now - last_use < IN_USE_SECONDS:
                break
            self._remove(folder)
            total -= size

    def _remove(self, folder: Path) -> None:
        hidden = self._downloads / uuid.uuid4().hex
        with contextlib.suppress(OSError):
            self._downloads.mkdir(exist_ok=True)
            folder.rename(hidden)
            shutil.rmtree(hidden)


def _kind(name: str) -> str:
    return name.partition("/")[0]


def shared_folders(settings: Settings) -> SharedFolders | None:
    """Return the folders in the store that DIGITS_STORE names, or None for the local folders."""
    objects = objects_of(settings)
    return None if objects is None else SharedFolders(objects, settings)


def mark_used(folder: Path) -> None:
    """Keep a folder in the cache for longer."""
    with contextlib.suppress(OSError):
        os.utime(folder)
