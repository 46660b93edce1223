"""Objects in a store that several machines share: S3, Google Cloud Storage, Azure, or a folder.

Correct without locks: an object is either created if absent, by which one of several writers wins,
or its name contains the digest of its content, so that writing it again changes nothing.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PreconditionError,
)
from obstore.store import LocalStore, ObjectStore, from_url

from digits.errors import UsageError
from digits.settings import Settings
from digits.storage.mirror import Mirror
from digits.storage.store_failures import explained, told_if_long

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az", "file", "memory")
CHUNK_BYTES = 8 * 2**20
# Small objects that are read side by side; each waits for the network, not for the processor.
NUM_READERS = 16
# Parts of a large object that are sent at once, and the longest that a request may take: together,
# 20 MB in two minutes, which a slow connection can do.
NUM_PARTS = 4
REQUEST_SECONDS = 120
# An answer whose body breaks off is not always asked for again by object_store itself.
NUM_ATTEMPTS = 4


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

    def read(self, name: str) -> Object | None:
        """Return a small object, or None if there is none."""
        return self._ask(f"read {name}", lambda: self._read(name))

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
        self._prepare()

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
        self._prepare()
        self._ask(
            f"write {name}",
            lambda: obstore.put(self._store, name, content, use_multipart=False),
        )

    def upload(self, name: str, file: BinaryIO, sent: Callable[[int], object]) -> None:
        """Create or replace an object with a file's content; `sent` is told the bytes so far."""
        self._prepare()
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
        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise explained(self.address, f"delete {name}", error) from error

    def _prepare(self) -> None:
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


def objects_of(settings: Settings) -> Objects | None:
    """Return the store that DIGITS_STORE names, or None for the local folders.

    Raises UsageError for an address that cannot be one.
    """
    if settings.store is None:
        return None
    return _opened(settings.store, settings.results_dir, settings.store_seconds)


@cache
def _opened(address: str, folder: Path, seconds: float) -> Objects:
    from digits.storage.probe import probe_once

    is_shared = not address.startswith("memory:")
    check = partial(probe_once, partial(connected, address, folder, seconds), folder)
    return connected(address, folder, seconds, check if is_shared else None)


def connected(
    address: str, folder: Path, seconds: float, check: Callable[[], object] | None = None
) -> Objects:
    """Return a store with a connection of its own; `folder` is for its objects' local copies.

    Raises UsageError for an address that cannot be one.
    """
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES[:-1])
        raise UsageError(f"DIGITS_STORE={_shown(address)}: unknown address (expected {known})")
    if parts.username or parts.password:
        raise UsageError(
            f"DIGITS_STORE={_shown(address)}: contains credentials; give them as your provider's "
            "tools take them, such as AWS_ACCESS_KEY_ID (docs/scale.md)"
        )
    try:
        store = _open(address, parts.path, seconds)
    except (BaseError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"DIGITS_STORE={_shown(address)}: {reason}") from error
    return Objects(store, _shown(address), Mirror(folder / "mirror"), check)


def _open(address: str, path: str, seconds: float) -> ObjectStore:
    if address.startswith("file:"):
        return LocalStore(path, mkdir=True)
    if address.startswith("memory:"):
        return from_url("memory:///")
    options: dict[str, Any] = {"client_options": {"timeout": f"{REQUEST_SECONDS}s"}}
    if address.startswith("s3:"):
        options = _of_s3(options)
    return from_url(
        address,
        retry_config={"max_retries": 1000, "retry_timeout": timedelta(seconds=seconds)},
        **options,
    )


def _of_s3(options: dict[str, Any]) -> dict[str, Any]:
    """Add what object_store does not find by itself: profiles, and a server without TLS."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    if os.environ.get("AWS_PROFILE") and not os.environ.get("AWS_ACCESS_KEY_ID"):
        try:
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError as error:
            raise UsageError("AWS_PROFILE needs boto3: `pip install boto3`") from error
        options["credential_provider"] = Boto3CredentialProvider()
    return options


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


def _shown(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
