"""How those who use results in a store and those who delete them stay out of each other's way.

Nobody locks anything. Whoever relies on an object first writes what protects it: the object
itself, which is then young, or the record that names it. Then it reads which objects collectors
have announced. A collector announces first, then looks at what is protected, deletes what is not,
and withdraws the announcement. So either the collector's look comes after the protection, and
spares the object, or the user sees the announcement, waits until the deletions have ended, and
writes again what is missing.
"""

import contextlib
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import ValidationError

from digits.errors import StoreError
from digits.storage.references import Frozen
from digits.storage.remote.objects import Objects

logger = logging.getLogger(__name__)

ANNOUNCED = "collecting/"
POLL_SECONDS = 1.0


class Announcement(Frozen):
    """The records and folders that may be deleted in the next `seconds`."""

    seconds: float
    names: tuple[str, ...]


@contextlib.contextmanager
def announced(objects: Objects, names: Sequence[str], seconds: float) -> Iterator[datetime]:
    """Announce that these records and folders may be deleted during the block.

    Yields the current time by the store's clock. The block, with its last request, must end within
    `seconds`: the announcement of a killed collector is ignored then.
    """
    name = f"{ANNOUNCED}{uuid.uuid4().hex}.json"
    announcement = Announcement(seconds=seconds, names=tuple(names))
    objects.write(name, announcement.model_dump_json().encode())
    try:
        found = objects.read(name)
        if found is None:
            raise StoreError(f"{objects.address}/{name} was deleted while it was in use; run again")
        yield found.modified
    finally:
        objects.delete([name])


def wait_for_collectors(objects: Objects, *names: str) -> bool:
    """Wait while a collector may delete any of these; return whether there was one.

    Call it after writing what protects them. If it returns True, some may have been deleted.
    """
    was_any = False
    for one in objects.listed(ANNOUNCED):
        announcement = _read(objects, one.name)
        if announcement is None or not set(names) & set(announcement.names):
            continue
        was_any = True
        logger.info("waiting for garbage collection to end in %s", objects.address)
        _wait(objects, one.name, announcement.seconds)
    return was_any


def _wait(objects: Objects, name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while objects.read(name) is not None:
        if time.monotonic() > deadline:
            # Of a killed collector; nobody else needs to wait for it.
            objects.delete([name])
            return
        time.sleep(POLL_SECONDS)


def _read(objects: Objects, name: str) -> Announcement | None:
    """Return an announcement, or None if it has been withdrawn or is invalid."""
    found = objects.read(name)
    if found is None:
        return None
    try:
        return Announcement.model_validate_json(found.content)
    except ValidationError:
        logger.warning("%s/%s is not an announcement; it is ignored", objects.address, name)
        return None
