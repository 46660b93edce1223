"""Garbage collection in a store that several machines share, while others run.

Only objects that nobody has written for the time of `grace`, a day by default, are ever deleted.
All times are the store's, so that no machine's clock matters. This is safe because

- whoever stores a result writes the bundle's manifest, then its record, also where both existed;
- whoever uses a result finds it by its record, and writes that again if it is older than six
  hours, before checking the bundle, so a run of up to 18 hours finds all that it has used;
- whoever adds to a ledger writes the manifests of the bundles that the line names right before it;
- each of them then waits for collectors that have announced these very objects, and writes again
  what was deleted meanwhile (see digits.storage.remote.collectors).

A bundle's manifest is deleted before its files, so that a part is never taken for the whole, and
records before bundles. A collector that is killed leaves what the next one finds. Two collectors
delete the same: each looks again right before it deletes. Ledgers, dataset versions and batches are
never deleted, nor are objects with unknown names.
"""

import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, get_args

from pydantic import ValidationError

from digits.errors import DamagedError, StoreError, UsageError
from digits.registry.needed import (
    History,
    Policy,
    data_of_champions,
    histories,
    kept_records,
    named_bundles,
)
from digits.storage.bundles import MANIFEST
from digits.storage.records import Record
from digits.storage.references import Kind
from digits.storage.remote.collectors import ANNOUNCED, announced
from digits.storage.remote.objects import Listed, Objects
from digits.storage.remote.probe import PROBES
from digits.storage.seals import unseal
from digits.storage.store import PREPARED_KINDS
from digits.storage.workspace import Workspace
from digits.training.checkpoints import DESCRIPTION, Description

logger = logging.getLogger(__name__)

# Announcements and probes older than this were left by killed processes.
LEFT = timedelta(days=1)
# How long after an announcement something may be deleted; then there is another.
DELETING_SECONDS = 300.0
# What is deleted after one look, at most, and how much of it at once: few enough that all its
# requests go side by side.
NUM_UNITS = 200
NUM_AT_ONCE = 4
BUNDLES = re.compile(rf"({'|'.join(get_args(Kind))})/[0-9a-f]{{64}}")
REFUSED = re.compile(r"quarantine/[^/]+/[0-9a-f]{64}")
CHECKPOINT = re.compile(r"checkpoints/[0-9a-f]{64}")


# Deleted first: without it, the others are not found.
FIRST = (f"/{MANIFEST}", f"/{DESCRIPTION}")

Folders = dict[str, list[Listed]]
"""Objects by the folder that they lie in."""


class Unit(NamedTuple):
    """Objects that are deleted together, in this order: a record, a bundle, a checkpoint."""

    name: str
    address: str
    objects: tuple[Listed, ...]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return sum(one.size for one in self.objects)


class Look(NamedTuple):
    """The garbage at some moment, and the keys of the records that stay."""

    units: list[Unit]
    kept_keys: set[str]


def look(workspace: Workspace, policy: Policy) -> Look:
    """Find garbage. Raises LedgerError if any ledger is corrupted."""
    with announced(_objects(workspace), (), 0) as now:
        return _Looking(workspace, policy, now).look()


def look_around(workspace: Workspace, policy: Policy) -> Look:
    """Find garbage without writing anything: as far as this machine's clock is right."""
    return _Looking(workspace, policy, datetime.now(UTC)).look()


def delete_units(workspace: Workspace, policy: Policy, units: Sequence[Unit]) -> None:
    """Delete what was found, except what has been written or needed since."""
    left = list(units)
    while left:
        del left[: _delete_some(workspace, policy, left[:NUM_UNITS])]


def _delete_some(workspace: Workspace, policy: Policy, units: Sequence[Unit]) -> int:
    """Look again and delete what is still garbage; return how many units are done with."""
    objects = _objects(workspace)
    # The last manifests, then their files: requests are tried again while the store is away.
    seconds = DELETING_SECONDS + 3 * workspace.settings.store_seconds
    began = _seconds()
    with announced(objects, [unit.name for unit in units], seconds) as now:
        still = set(_Looking(workspace, policy, now).look().units)
        for done in range(0, len(units), NUM_AT_ONCE):
            if _seconds() - began > DELETING_SECONDS:
                return _done_in_time(done, objects)
            together = units[done : done + NUM_AT_ONCE]
            for unit in together:
                if unit not in still:
                    logger.info("%s has been used meanwhile, and is kept", unit.address)
            _delete([unit for unit in together if unit in still], objects)
    return len(units)


def _done_in_time(done: int, objects: Objects) -> int:
    if not done:
        raise StoreError(
            f"{objects.address}: looking at all objects took more than {DELETING_SECONDS:.0f} "
            "seconds, after which nothing is deleted; run again where the store is faster"
        )
    return done


def _delete(units: Sequence[Unit], objects: Objects) -> None:
    objects.delete(unit.objects[0].name for unit in units)
    objects.delete(one.name for unit in units for one in unit.objects[1:])


def _seconds() -> float:
    """The time by a clock that goes on while a laptop sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Looking:
    """One look at the store."""

    def __init__(self, workspace: Workspace, policy: Policy, now: datetime) -> None:
        self._workspace, self._policy, self._now = workspace, policy, now
        self._objects = _objects(workspace)

    def look(self) -> Look:
        # What could be deleted is listed before what needs it is read: what is made meanwhile is
        # not listed, and what is used meanwhile is needed.
        folders = {kind: self._folders(f"{kind}/", BUNDLES) for kind in get_args(Kind)}
        checkpoints = self._folders("checkpoints/", CHECKPOINT)
        ledgers = histories(self._workspace.settings)
        stay, records = self._records(ledgers)
        needed = {record.reference.name for record in stay.values()} | named_bundles(ledgers)
        needed |= self._data(ledgers, folders)
        ended = {key for key, record in stay.items() if record.key.step == "train"}
        units = [
            *records,
            *(unit for kind in folders for unit in self._bundles(kind, folders[kind], needed)),
            *self._checkpoints(checkpoints, ended),
            *self._refused(),
            *self._leftovers(),
        ]
        return Look(units, set(stay))

    def _records(self, ledgers: Sequence[History]) -> tuple[dict[str, Record], list[Unit]]:
        """Return the readable records that stay, by key, and those that are garbage."""
        found = list(self._workspace.records.in_store())
        readable = (record for _, record in found if record is not None)
        kept = {
            record.key.digest
            for record in kept_records(readable, ledgers, self._policy.keep_records)
        }
        stay, units = {}, []
        for one, record in found:
            key = record.key.digest if record else ""
            if key not in kept and self._is_old(one):
                units.append(self._unit(one.name, [one]))
            elif record:
                stay[key] = record
        return stay, units

    def _data(self, ledgers: Sequence[History], folders: dict[Kind, Folders]) -> set[str]:
        try:
            return data_of_champions(ledgers, self._workspace.store)
        except DamagedError as error:
            logger.warning("all prepared data is kept, because a champion's is unknown: %s", error)
            return {name for kind in PREPARED_KINDS for name in folders[kind]}

    def _bundles(self, kind: Kind, folders: Folders, needed: set[str]) -> Iterator[Unit]:
        spare = {name: folder for name, folder in folders.items() if name not in needed}
        if kind == "validations":
            # A failed validation has no record, but someone may still want to read its page.
            whole = [name for name, folder in spare.items() if _has(MANIFEST, folder)]
            recent = sorted(whole, key=lambda name: _last_write(spare[name]), reverse=True)
            for name in recent[: self._policy.keep_records]:
                del spare[name]
        for name, folder in spare.items():
            if all(map(self._is_old, folder)):
                yield self._unit(name, folder)

    def _checkpoints(self, folders: Folders, ended: set[str]) -> Iterator[Unit]:
        """Yield checkpoints of finished trainings, old interrupted ones, and replaced states."""
        newest = sorted(folders, key=lambda name: _last_write(folders[name]), reverse=True)
        interrupted = [name for name in newest if name.rpartition("/")[2] not in ended]
        kept = set(interrupted[: self._policy.keep_records])
        for name, folder in folders.items():
            if name not in kept and all(map(self._is_old, folder)):
                yield self._unit(name, folder)
            else:
                yield from self._replaced_states(folder)

    def _replaced_states(self, folder: Sequence[Listed]) -> Iterator[Unit]:
        described = [one for one in folder if one.name.endswith(f"/{DESCRIPTION}")]
        for content in self._objects.read_all(described):
            try:
                state = Description.model_validate_json(unseal(content or b"")[0]).state
            except (DamagedError, ValidationError):
                return
            for one in folder:
                if one.name.rpartition("/")[2] not in {DESCRIPTION, state} and self._is_old(one):
                    yield self._unit(one.name, [one])

    def _refused(self) -> Iterator[Unit]:
        days = self._policy.refused_days
        if days is not None:
            latest = self._now - timedelta(days=days)
            for name, folder in self._folders("quarantine/", REFUSED).items():
                if _last_write(folder) < latest:
                    yield self._unit(name, folder)

    def _leftovers(self) -> Iterator[Unit]:
        for prefix in (ANNOUNCED, PROBES):
            for one in self._objects.listed(prefix):
                if one.modified < self._now - LEFT:
                    yield self._unit(one.name, [one])

    def _folders(self, prefix: str, names: re.Pattern[str]) -> Folders:
        """List the folders with the names that digits gives them."""
        folders: Folders = defaultdict(list)
        for one in self._objects.listed(prefix):
            name = one.name.rpartition("/")[0]
            if names.fullmatch(name):
                folders[name].append(one)
        return folders

    def _is_old(self, one: Listed) -> bool:
        return one.modified < self._now - self._policy.grace

    def _unit(self, name: str, objects: Iterable[Listed]) -> Unit:
        ordered = sorted(objects, key=lambda one: not one.name.endswith(FIRST))
        return Unit(name, f"{self._objects.address}/{name}", tuple(ordered))


def _has(file: str, folder: Iterable[Listed]) -> bool:
    return any(one.name.endswith(f"/{file}") for one in folder)


def _last_write(folder: Iterable[Listed]) -> datetime:
    return max(one.modified for one in folder)


def _objects(workspace: Workspace) -> Objects:
    if workspace.objects is None:
        raise UsageError("DIGITS_STORE is not set")
    return workspace.objects
