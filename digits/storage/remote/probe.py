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
# The beginning of the name of what says when a store last passed.
PROOF = "probed"
VALID = timedelta(days=30)
NUM_WRITERS = 8
NUM_ROUNDS = 3


def probe_once(objects: Objects, connect: Callable[[], Objects], folder: Path) -> None:
    """Probe a store unless it has passed recently, on this machine or on another one.

    `folder` is that of what this machine knows about the store.
    """
    if _is_recent(passed(objects, folder)):
        return
    last = _passed_elsewhere(objects)
    if last is not None and _is_recent(last):
        _remember(objects, folder, last)
    else:
        _probe_and_tell(connect, folder)


def probe_now(settings: Settings) -> str:
    """Probe DIGITS_STORE and return its address. Raises StoreError, and UsageError without one."""
    if settings.store is None:
        raise UsageError("DIGITS_STORE is not set; set it to the address of the store to probe")
    folder = settings.results_dir
    connect = partial(connected, settings.store, folder, settings.store_seconds)
    _probe_and_tell(connect, folder)
    return connect().address


def passed(objects: Objects, folder: Path) -> datetime | None:
    """Return when the store last passed, as far as this machine knows, or None if it never did."""
    try:
        return datetime.fromisoformat((folder / proof(objects)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def proof(objects: Objects) -> str:
    """Return the name of the proof that a store has passed, here and in the store.

    It contains the server: another one, before the same bucket, may ignore conditions.
    """
    if objects.server is None:
        return PROOF
    return f"{PROOF}-{hashlib.sha256(objects.server.encode()).hexdigest()[:16]}"


def _passed_elsewhere(objects: Objects) -> datetime | None:
    """Return when the store passed on any machine, by its own clock.

    What a folder heeds depends on how this very machine has mounted it.
    """
    found = None if objects.server is None else objects.read(proof(objects))
    return None if found is None else found.modified


def _probe_and_tell(connect: Callable[[], Objects], folder: Path) -> None:
    probe(connect)
    objects = connect()
    if objects.server is not None:
        objects.write(proof(objects), b"")
    _remember(objects, folder, datetime.now(UTC))


def _remember(objects: Objects, folder: Path, passed: datetime) -> None:
    with contextlib.suppress(OSError):  # then it is probed again
        write_whole(folder / proof(objects), passed.isoformat().encode())


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
