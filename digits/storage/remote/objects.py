"""Objects in a store that several machines share: S3, Google Cloud Storage, Azure, or a folder.

Correct without locks: an object is either created if absent, by which one of several writers wins,
or its name contains the digest of its content, so that writing it again changes nothing.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, NamedTuple, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PreconditionError,
)
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from digits.storage.remote.failures import explained, told_if_long
from digits.storage.remote.mirror import Mirror

T = TypeVar("T")

CHUNK_BYTES = 8 * 2**20
# Small objects that are read side by side; each waits for the network, not for the processor.
NUM_READERS = 16
# Parts of a large object that are sent at once: 20 MB in the longest time that a request may take
# (addresses.py), which a slow connection can do.
NUM_PARTS = 4
# An answer whose body breaks off is not always asked for again by object_store itself.
NUM_ATTEMPTS = 4
# How long, and how many, small objects that were read are remembered for those who ask for that.
RECENT_SECONDS = 60.0
NUM_RECENT = 64


class Listed(NamedTuple):
    """An object in a listing. `tag` changes with its content, `modified` is the store's time."""

    name: str
    size: int
    modified: datetime
    tag: str


class Object(NamedTuple):
    """An object's content, and when it was written, by the store's clock."""

    content: bytes
    modified: datetime


class Objects:
    """The objects of one store, by name: "models/DIGEST/manifest.json".

    Every method raises StoreError if the store does not answer, or refuses. `check` is called
    before the first write of this process, which it can refuse.
    """

    def __init__(
        self,
        store: ObjectStore,
        address: str,
        mirror: Mirror,
        check: Callable[[], object] | None = None,
    ) -> None:
        self._store, self.address, self._mirror = store, address, mirror
        self._check, self._checking = check, threading.Lock()
        self._recent: OrderedDict[str, tuple[float, Object]] = OrderedDict()

    @property
    def server(self) -> str | None:
        """The server's address; "" for the provider's own, None for a folder of this machine."""
        if isinstance(self._store, S3Store | GCSStore | AzureStore):
            return str(self._store.config.get("endpoint", ""))
        return None

    def read(self, name: str) -> Object | None:
        """Return a small object, or None if there is none."""
        found = self._ask(f"read {name}", lambda: self._read(name))
        self._forget(name)
        if found is not None:
            self._recent[name] = (time.monotonic(), found)
            if len(self._recent) > NUM_RECENT:
                self._recent.popitem(last=False)
        return found

    def recent(self, name: str) -> Object | None:
        """Return a small object as this process read it in the last minute, or read it now."""
        then, found = self._recent.get(name, (-RECENT_SECONDS, None))
        is_recent = time.monotonic() - then < RECENT_SECONDS
        return found if is_recent and found is not None else self.read(name)

    def read_all(self, listed: Sequence[Listed], *, is_fresh: bool = False) -> list[bytes | None]:
        """Return the contents of listed small objects; None for one that is gone.

        Unless `is_fresh`, those that have not changed since this machine read them last are not
        read again.
        """
        with ThreadPoolExecutor(NUM_READERS) as readers:
            return list(readers.map(partial(self._read_mirrored, is_fresh), listed))

    def create(self, name: str, content: bytes) -> bool:
        """Create a small object; return False, and change nothing, if another one is there.

        An attempt whose answer was lost is recognized: an object with this very content is ours.
        """
        self._prepare(name)

        def attempt() -> bool:
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return self._is(name, content)
            except BaseError:
                # Two attempts at once can be answered with a conflict.
                there = self._read(name)
                if there is None:
                    raise
                return there.content == content
            return True

        return self._ask(f"create {name}", attempt)

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a small object."""
        self._prepare(name)
        self._ask(
            f"write {name}",
            lambda: obstore.put(self._store, name, content, use_multipart=False),
        )

    def upload(self, name: str, file: BinaryIO, sent: Callable[[int], object]) -> None:
        """Create or replace an object with a file's content; `sent` is told the bytes so far."""
        self._prepare(name)
        self._ask(
            f"write {name}",
            lambda: obstore.put(self._store, name, _chunks(file, sent), max_concurrency=NUM_PARTS),
        )

    def download(self, name: str) -> Iterator[bytes]:
        """Yield an object's content in chunks. Raises FileNotFoundError if there is none."""
        try:
            with told_if_long(self.address, f"read {name}"):
                found = obstore.get(self._store, name)
            for chunk in found.stream(CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError:
            raise FileNotFoundError(name) from None
        except (BaseError, OSError) as error:
            raise explained(self.address, f"read {name}", error) from error

    def listed(self, prefix: str) -> list[Listed]:
        """List the objects below a prefix, ordered by name."""

        def collect() -> list[Listed]:
            pages: Any = obstore.list(self._store, prefix, chunk_size=1000)
            return sorted(
                Listed(one["path"], one["size"], one["last_modified"], one["e_tag"] or "")
                for page in pages
                for one in page
            )

        return self._ask(f"list {prefix}", partial(_whole, collect))

    def folders(self, prefix: str) -> list[str]:
        """List the names of the folders right below a prefix."""
        found: Any = self._ask(
            f"list {prefix}", lambda: obstore.list_with_delimiter(self._store, prefix)
        )
        return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects side by side; one that is gone already is no error."""
        with ThreadPoolExecutor(NUM_READERS) as threads:
            for _ in threads.map(self._delete, names):
                pass

    def _delete(self, name: str) -> None:
        self._forget(name)
        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise explained(self.address, f"delete {name}", error) from error

    def _forget(self, name: str) -> None:
        self._recent.pop(name, None)

    def _prepare(self, name: str) -> None:
        self._forget(name)
        with self._checking:
            if self._check is not None:
                self._check()
                self._check = None

    def _read(self, name: str) -> Object | None:
        def get() -> Object:
            found = obstore.get(self._store, name)
            return Object(bytes(found.bytes()), found.meta["last_modified"])

        try:
            return _whole(get)
        except FileNotFoundError:
            return None

    def _read_mirrored(self, is_fresh: bool, listed: Listed) -> bytes | None:
        content = None if is_fresh else self._mirror.read(listed.name, listed.tag)
        if content is None:
            found = self.read(listed.name)
            if found is None:
                return None
            content = found.content
            self._mirror.write(listed.name, listed.tag, content)
        return content

    def _is(self, name: str, content: bytes) -> bool:
        there = self._read(name)
        return there is not None and there.content == content

    def _ask(self, what: str, request: Callable[[], T]) -> T:
        try:
            with told_if_long(self.address, what):
                return request()
        except (BaseError, OSError) as error:
            raise explained(self.address, what, error) from error


def _whole(read: Callable[[], T]) -> T:
    """Read again what broke off."""
    for _ in range(1, NUM_ATTEMPTS):
        try:
            return read()
        except GenericError as error:
            if "response body" not in str(error):
                raise
    return read()


def _chunks(file: BinaryIO, sent: Callable[[int], object]) -> Iterator[bytes]:
    total = 0
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        total += len(chunk)
        sent(total)
