"""The places where results lie, seen alike: the local folders, and a store for several machines.

A folder is a bundle or a batch, by its name in a store: "models/DIGEST", "batches/DATASET/DIGEST".
"""

import contextlib
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

from digits.datasets.versions import DatasetVersions
from digits.errors import DamagedError, DigitsError, UsageError
from digits.registry.garbage import running, runs_lock
from digits.registry.ledger import Ledger, all_ledgers
from digits.settings import Settings
from digits.storage.bundles import MANIFEST, Inspector
from digits.storage.files import TEMPORARY, discard, flush, make_folder, write_whole
from digits.storage.locks import hold
from digits.storage.records import KEY, Record
from digits.storage.references import Kind
from digits.storage.remote.folders import SharedFolders
from digits.storage.remote.objects import Objects
from digits.storage.sharing import data_lock
from digits.storage.workspace import Workspace

LOCAL = "local"
WAITING = "waiting for garbage collection to end"
FOLDER = re.compile(rf"(({'|'.join(get_args(Kind))})|batches/[^/]+)/[0-9a-f]{{64}}")


class Place(ABC):
    """Results at one place."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workspace = Workspace(settings)

    @abstractmethod
    def folders(self) -> dict[str, int]:
        """Return the size in bytes of each folder that has a manifest, by its name."""

    @abstractmethod
    def inspect(self, name: str, digest: str) -> None:
        """Check every byte of the folder whose manifest has this digest. Raises DamagedError."""

    @abstractmethod
    def fetch(self, name: str, digest: str) -> Path:
        """Return the path of a folder on this machine. Raises DamagedError."""

    @abstractmethod
    def put(self, name: str, digest: str, folder: Path) -> None:
        """Store a folder, replacing a corrupted one, and check what is stored."""

    @abstractmethod
    def records(self) -> dict[str, Record | None]:
        """Return all records by key; None for an unreadable one."""

    @abstractmethod
    def put_record(self, key: str, content: bytes) -> None:
        """Store a record."""

    @abstractmethod
    def read_record(self, key: str) -> bytes:
        """Return a record's bytes."""

    def reading(self) -> AbstractContextManager[None]:
        """Keep garbage collection on this machine waiting for a block.

        In a store, garbage collection spares what has been written in the last hours.
        """
        return contextlib.nullcontext()

    def writing(self) -> AbstractContextManager[None]:
        """Like `reading`, also of what the block writes."""
        return self.reading()

    def ledgers(self) -> list[Ledger]:
        """Return the ledgers."""
        return all_ledgers(self.settings)

    @abstractmethod
    def versions(self) -> list[DatasetVersions]:
        """Return the versions of each dataset that has batches."""


class LocalPlace(Place):
    """The two run-time folders of this machine."""

    def __str__(self) -> str:
        return f"{self.settings.data_dir} and {self.settings.artifacts_dir}"

    def folders(self) -> dict[str, int]:
        """Return the size in bytes of each folder that has a manifest, by its name."""
        found = {}
        for root, name in self._roots():
            for path in sorted(root.iterdir()) if root.is_dir() else ():
                if KEY.fullmatch(path.name) and (path / MANIFEST).is_file():
                    size = sum(file.stat().st_size for file in path.iterdir())
                    found[f"{name}/{path.name}"] = size
        return found

    def inspect(self, name: str, digest: str) -> None:
        """Check every byte of the folder whose manifest has this digest. Raises DamagedError."""
        Inspector().inspect(self._path(name), digest)

    def fetch(self, name: str, digest: str) -> Path:
        """Return the path of a folder on this machine. Raises DamagedError."""
        self.inspect(name, digest)
        return self._path(name)

    def put(self, name: str, digest: str, folder: Path) -> None:
        """Store a folder, replacing a corrupted one, and check what is stored."""
        final = self._path(name)
        make_folder(final.parent)
        draft = final.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            shutil.copytree(folder, draft)
            for path in (*draft.iterdir(), draft):
                flush(path)
            Inspector().inspect(draft, digest)
            if final.exists():
                final.rename(draft.with_suffix(".old"))
            draft.rename(final)
            flush(final.parent)
        finally:
            for left in (draft, draft.with_suffix(".old")):
                discard(left)

    def records(self) -> dict[str, Record | None]:
        """Return all records by key; None for an unreadable one."""
        found: dict[str, Record | None] = {}
        for path in sorted(self.workspace.records.root.glob("*.json")):
            if KEY.fullmatch(path.stem):
                found[path.stem] = None
                with contextlib.suppress(DamagedError):
                    found[path.stem] = self.workspace.records.read(path.stem)
        return found

    def put_record(self, key: str, content: bytes) -> None:
        """Store a record."""
        write_whole(self.workspace.records.path(key), content)

    def read_record(self, key: str) -> bytes:
        """Return a record's bytes."""
        return self.workspace.records.path(key).read_bytes()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep garbage collection on this machine waiting for a block."""
        with (
            hold(runs_lock(self.workspace), WAITING, shared=True),
            hold(data_lock(self.settings), WAITING, shared=True),
        ):
            yield

    def writing(self) -> AbstractContextManager[None]:
        """Like `reading`, also of what the block writes: as a run does."""
        return running(self.workspace)

    def versions(self) -> list[DatasetVersions]:
        """Return the versions of each dataset that has batches."""
        paths = self.settings.batches_dir.glob("*.*")
        names = {path.stem for path in paths if path.suffix in {".jsonl", ".head"}}
        return [DatasetVersions(name, self.settings) for name in sorted(names)]

    def _roots(self) -> Iterator[tuple[Path, str]]:
        for kind in get_args(Kind):
            yield self.workspace.store.root(kind), kind
        batches = self.settings.batches_dir
        for path in sorted(batches.iterdir()) if batches.is_dir() else ():
            if path.is_dir():
                yield path, f"batches/{path.name}"

    def _path(self, name: str) -> Path:
        kind, _, rest = name.partition("/")
        if kind == "batches":
            return self.settings.batches_dir / rest
        return next(root for root, found in self._roots() if found == kind) / rest


class SharedPlace(Place):
    """A store that several machines share."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if self.workspace.objects is None:
            raise UsageError("DIGITS_STORE is not set")
        self._objects: Objects = self.workspace.objects
        self._folders = SharedFolders(self._objects, settings)

    def __str__(self) -> str:
        return self._objects.address

    def folders(self) -> dict[str, int]:
        """Return the size in bytes of each folder that has a manifest, by its name."""
        sizes: dict[str, int] = {}
        whole = set()
        for kind in (*get_args(Kind), "batches"):
            for one in self._objects.listed(f"{kind}/"):
                name, _, file = one.name.rpartition("/")
                if FOLDER.fullmatch(name):
                    sizes[name] = sizes.get(name, 0) + one.size
                    if file == MANIFEST:
                        whole.add(name)
        return {name: size for name, size in sizes.items() if name in whole}

    def inspect(self, name: str, digest: str) -> None:
        """Check every byte of the folder whose manifest has this digest. Raises DamagedError."""
        self._folders.inspect(name, digest)

    def fetch(self, name: str, digest: str) -> Path:
        """Return the path of a folder on this machine. Raises DamagedError."""
        folder = self.settings.results_dir / name
        self._folders.download(name, folder, digest)
        return folder

    def put(self, name: str, digest: str, folder: Path) -> None:
        """Store a folder, replacing a corrupted one, and check what is stored."""
        self._folders.upload(name, folder)
        self._folders.inspect(name, digest)

    def records(self) -> dict[str, Record | None]:
        """Return all records by key; None for an unreadable one."""
        found = self.workspace.records.in_store()
        return {one.name.rpartition("/")[2][:-5]: record for one, record in found}

    def put_record(self, key: str, content: bytes) -> None:
        """Store a record."""
        self._objects.write(f"records/{key}.json", content)

    def read_record(self, key: str) -> bytes:
        """Return a record's bytes."""
        found = self._objects.read(f"records/{key}.json")
        if found is None:
            raise DigitsError(f"{self}/records/{key}.json was deleted meanwhile; run again")
        return found.content

    def versions(self) -> list[DatasetVersions]:
        """Return the versions of each dataset that has batches."""
        names = self._objects.folders("versions")
        return [DatasetVersions(name, self.settings) for name in names]


def place(name: str, settings: Settings) -> Place:
    """Return the place with a name: "local", or a store's address. Raises UsageError."""
    if name == LOCAL:
        return LocalPlace(settings.model_copy(update={"store": None}))
    return SharedPlace(settings.model_copy(update={"store": name}))


def current_place(settings: Settings) -> Place:
    """Return the place where the results of the settings lie."""
    return place(settings.store or LOCAL, settings)
