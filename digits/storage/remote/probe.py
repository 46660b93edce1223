"""A race that shows whether a store heeds conditions: of several writers, one may create an object.

Everything that several machines decide rests on it. Some servers ignore the condition, and then the
last writer wins.
"""

import contextlib
import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from digits.errors import StoreError, UsageError
from digits.settings import Settings
from digits.storage.files import write_whole
from digits.storage.remote.addresses import connected
from digits.storage.remote.objects import Objects

PROBES = "probe/"
# When this store last passed: in the folder of what this machine knows about it, and in the store
# for other machines that reach it at the same address.
PROOF = "probed"
VALID = timedelta(days=30)
NUM_WRITERS = 8
NUM_ROUNDS = 3


def probe_once(connect: Callable[[], Objects], folder: Path) -> None:
    """Probe a store unless it has passed recently, on this machine or on another one."""
    if _is_recent(passed(folder)):
        return
    objects = connect()
    if not _has_passed_elsewhere(objects):
        _probe_and_tell(connect)
    remember(folder)


def probe_now(settings: Settings) -> str:
    """Probe DIGITS_STORE and return its address. Raises StoreError, and UsageError without one."""
    if settings.store is None:
        raise UsageError("DIGITS_STORE is not set; set it to the address of the store to probe")
    connect = partial(connected, settings.store, settings.results_dir, settings.store_seconds)
    _probe_and_tell(connect)
    remember(settings.results_dir)
    return connect().address


def passed(folder: Path) -> datetime | None:
    """Return when the store last passed on this machine, or None if it never did."""
    try:
        return datetime.fromisoformat((folder / PROOF).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def remember(folder: Path) -> None:
    """Remember that the store has just passed."""
    with contextlib.suppress(OSError):  # then it is probed again
        write_whole(folder / PROOF, datetime.now(UTC).isoformat().encode())


def _has_passed_elsewhere(objects: Objects) -> bool:
    name = _shared_proof(objects)
    found = objects.read(name) if name else None
    return found is not None and _is_recent(found.modified)


def _probe_and_tell(connect: Callable[[], Objects]) -> None:
    probe(connect)
    objects = connect()
    if name := _shared_proof(objects):
        objects.write(name, b"")


def _shared_proof(objects: Objects) -> str | None:
    """Return the name of the proof for all machines that use this server, or None.

    The same bucket may lie behind another server, which ignores conditions. And what a folder
    heeds depends on how this very machine has mounted it.
    """
    if objects.server is None:
        return None
    return f"{PROOF}/{hashlib.sha256(objects.server.encode()).hexdigest()[:16]}"


def _is_recent(last: datetime | None) -> bool:
    return last is not None and abs(datetime.now(UTC) - last) <= VALID


def probe(connect: Callable[[], Objects]) -> None:
    """Race several writers, each with a connection of its own, for some objects.

    Deletes the objects. Raises StoreError if the store lets more than one of them create the same
    object, or replace an object that is there.
    """
    writers = [connect() for _ in range(NUM_WRITERS)]
    for _ in range(NUM_ROUNDS):
        name = f"{PROBES}{uuid.uuid4().hex}"
        try:
            _race(name, writers)
        finally:
            writers[0].delete([name])


def _race(name: str, writers: Sequence[Objects]) -> None:
    start = threading.Barrier(len(writers))

    def create(number: int) -> bool:
        start.wait()
        return writers[number].create(name, _content(number))

    with ThreadPoolExecutor(len(writers)) as threads:
        won = list(threads.map(create, range(len(writers))))
    winners = [number for number, is_first in enumerate(won) if is_first]
    if len(winners) != 1:
        what = f"{len(winners)} of {len(writers)} writers created the same object at once"
        raise _refused(writers[0], f"{what} (expected 1)")
    if writers[0].create(name, b"later"):
        raise _refused(writers[0], "an object that was there was replaced by a new one")
    found = writers[0].read(name)
    if found is None or found.content != _content(winners[0]):
        raise _refused(writers[0], "an object does not contain what its only writer wrote")


def _content(number: int) -> bytes:
    return f"writer {number}".encode()


def _refused(objects: Objects, what: str) -> StoreError:
    return StoreError(
        f"{objects.address} ignores conditions: {what}; machines that share it could undo each "
        "other's decisions, so it is not used and nothing was written to it; choose a store that "
        "supports conditional writes (If-None-Match), without versions of its own: docs/scale.md "
        "lists some"
    )
