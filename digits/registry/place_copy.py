"""Copy all results from one place to another, such as a local workspace into a store, and back.

What is there and intact is not copied again, so an interrupted copy goes on where it was. Folders
come first, then records, then the lines that name them: the target never names what it lacks.
"""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from digits.datasets.versions import DatasetVersions
from digits.errors import DamagedError, DigitsError, UsageError
from digits.progress import transfer
from digits.registry.ledger import Ledger
from digits.registry.places import Place
from digits.storage.chain import Chain
from digits.storage.references import Frozen
from digits.storage.seals import unseal

logger = logging.getLogger(__name__)

NUM_WRITERS = 4


class Copied(Frozen):
    """What was copied, how many folders were there already, and what the source lacks.

    `damaged` are folders and records that are missing or corrupted in the source.
    """

    source: str
    target: str
    num_lines: int
    num_records: int
    num_folders: int
    num_bytes: int
    num_there: int
    damaged: tuple[str, ...]


class History(NamedTuple):
    """A ledger or a list of dataset versions at both places; `locked` excludes other writers."""

    source: Chain
    target: Chain
    locked: Callable[[], AbstractContextManager[Any]]


def copy(source: Place, target: Place) -> Copied:
    """Copy folders, records, dataset versions and ledgers; check each on both sides.

    Nothing in the source changes. Raises UsageError, before anything is copied, if the target has
    another history of some dataset, and LedgerError if one is corrupted.
    """
    with source.reading(), target.writing():
        return _Copy(source, target).run()


class _Copy:
    def __init__(self, source: Place, target: Place) -> None:
        self._source, self._target = source, target
        self._damaged: list[str] = []
        self._num_folders = self._num_bytes = self._num_there = 0

    def run(self) -> Copied:
        histories = list(self._histories())
        for history in histories:
            _check_same(history)
        # Read before the folders, for the same reason that they are written after them.
        records = self._source.records()
        digests = self._digests()
        sizes = self._source.folders()
        missing = [name for name in digests if name not in sizes]
        self._damaged += missing
        self._copy_folders(sizes, digests)
        num_records = sum(self._copy_record(key, record) for key, record in records.items())
        return Copied(
            source=str(self._source),
            target=str(self._target),
            num_lines=sum(map(_copy_lines, histories)),
            num_records=num_records,
            num_folders=self._num_folders,
            num_bytes=self._num_bytes,
            num_there=self._num_there,
            damaged=tuple(self._damaged),
        )

    def _histories(self) -> Iterator[History]:
        """The lists of dataset versions, then the ledgers."""
        settings = self._target.settings
        for versions in self._source.versions():
            versions.changes()
            there = DatasetVersions(versions.dataset, settings)
            yield History(versions.chain, there.chain, there.changing)
        for ledger in self._source.ledgers():
            ledger.entries()
            other = Ledger(ledger.dataset, settings)
            yield History(ledger.chain, other.chain, other.deciding)

    def _digests(self) -> dict[str, str]:
        """The digests of the manifests of the batches that dataset versions name."""
        return {
            f"batches/{versions.dataset}/{change.batch}": change.manifest
            for versions in self._source.versions()
            for change in versions.changes()
        }

    def _copy_folders(self, sizes: dict[str, int], digests: dict[str, str]) -> None:
        there = self._target.folders()
        wanted = {
            name: digests.get(name, name.rpartition("/")[2])
            for name in sizes
            if name in digests or not name.startswith("batches/")
        }
        done = 0
        with (
            ThreadPoolExecutor(NUM_WRITERS) as writers,
            transfer("copy", sum(sizes[name] for name in wanted), "copied") as show,
        ):
            copying = {
                writers.submit(self._copy_folder, *item, is_there=item[0] in there): item[0]
                for item in wanted.items()
            }
            try:
                for future in as_completed(copying):
                    name = copying[future]
                    self._count(name, sizes[name], future.result())
                    done += sizes[name]
                    show(done)
            except BaseException:
                writers.shutdown(cancel_futures=True)
                raise

    def _copy_folder(self, name: str, digest: str, *, is_there: bool) -> bool | None:
        """Return whether a folder had to be copied; None if it is damaged in the source."""
        if is_there and _is_whole(self._target, name, digest):
            return False
        try:
            folder = self._source.fetch(name, digest)
        except DamagedError as error:
            logger.warning("%s is not copied: %s", name, error)
            return None
        self._target.put(name, digest, folder)
        return True

    def _count(self, name: str, size: int, was_copied: bool | None) -> None:
        if was_copied is None:
            self._damaged.append(name)
        elif was_copied:
            self._num_folders += 1
            self._num_bytes += size
        else:
            self._num_there += 1

    def _copy_record(self, key: str, record: Any) -> bool:
        """Copy a record unless the target has one; return whether it was copied."""
        if record is None:
            self._damaged.append(f"records/{key}.json")
            return False
        try:
            if self._target.workspace.records.read(key) is not None:
                return False
        except DamagedError:
            pass
        self._target.put_record(key, self._source.read_record(key))
        return True


def _is_whole(place: Place, name: str, digest: str) -> bool:
    try:
        place.inspect(name, digest)
    except DamagedError as error:
        logger.warning("copying again: %s", error)
        return False
    return True


def _check_same(history: History) -> None:
    """Check that one history is the beginning of the other. Raises UsageError."""
    here, there = history.source.read().lines, history.target.read().lines
    for number, (mine, other) in enumerate(zip(here, there, strict=False), start=1):
        if mine.digest != other.digest:
            raise UsageError(
                f"{history.target.place} has another history than {history.source.place}: they "
                f"differ from line {number}; nothing was copied; copy to an empty place"
            )


def _copy_lines(history: History) -> int:
    """Append the lines that the target lacks; return how many."""
    with history.locked():
        _check_same(history)
        lines, there = history.source.read().lines, history.target.read()
        added = lines[len(there.lines) :]
        for line in added:
            fields = json.loads(unseal(line.text)[0])
            fields.pop("previous")
            there = history.target.append(fields, there)
            if there.last_digest != line.digest:
                raise DigitsError(
                    f"{history.target.place} line {len(there.lines)} was not copied byte for byte"
                )
    return len(added)
