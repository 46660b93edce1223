"""Dataset versions: one line for each batch that was added or removed.

Version 1 is the data that the dataset spec names. Each line of data/batches/NAME.jsonl, chained
like the ledger, creates the next version; the lines up to a version define its batches.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from digits.datasets.growth import Growth, total
from digits.errors import DataError, UsageError
from digits.settings import Settings
from digits.storage.chain import Lines
from digits.storage.locks import hold
from digits.storage.references import Digest, Frozen
from digits.storage.remote.chain import chain_at
from digits.storage.remote.folders import shared_folders

CONTENT_KEY = "batch {:04}"


class Change(Frozen):
    """One line: a batch that was added or removed, and the resulting dataset version.

    `batch` is the digest of its images and labels, `manifest` that of its stored files, `files`
    maps the names of the original files to their digests. `growth` is empty for a removal.
    """

    format: Literal[2] = 2
    version: Annotated[int, Field(ge=2)]
    time: AwareDatetime
    dataset: str
    action: Literal["added", "removed"]
    batch: Digest
    manifest: Digest
    source: str
    files: Mapping[str, Digest] = Field(default_factory=dict)
    growth: Growth = Growth()
    previous: str = ""
    digest: str = ""


class DatasetVersion(Frozen):
    """A dataset version: its number and its batches in order."""

    number: int
    batches: tuple[Change, ...]

    @property
    def growth(self) -> Growth:
        """What the batches added to the data of the dataset spec."""
        return total(batch.growth for batch in self.batches)

    @property
    def content(self) -> dict[str, str]:
        """The digests of the batches, by names that sort in their order."""
        return {CONTENT_KEY.format(n): b.batch for n, b in enumerate(self.batches, start=1)}

    def describe(self) -> str:
        """Summarize the version, e.g. "dataset version 3, 2 batches"."""
        num = len(self.batches)
        batches = f", {num} batch{'es' * (num > 1)}" if num else ""
        return f"dataset version {self.number}{batches}"

    def find(self, batch: str) -> Change | None:
        """Return the batch with this digest, or None if this version does not have it."""
        return next((change for change in self.batches if change.batch == batch), None)


class DatasetVersions:
    """The versions of one dataset."""

    def __init__(self, dataset: str, settings: Settings) -> None:
        self.dataset = dataset
        self.folder = settings.batches_dir / dataset
        self.shared = shared_folders(settings)
        path = self.folder.with_suffix(".jsonl")
        self.chain = chain_at(path, f"versions/{dataset}", settings)

    def changes(self) -> list[Change]:
        """Return all changes, oldest first. Raises LedgerError at the first altered line."""
        return self._parsed(self.chain.read())

    def current(self) -> DatasetVersion:
        """Return the current version."""
        return version_of(self.changes())

    def folder_of(self, batch: str) -> Path:
        """Return the folder of a batch."""
        return self.folder / batch

    def kept(self, batches: Collection[str]) -> list[Change]:
        """Return the latest addition of each batch, even if removed since. Raises DataError."""
        added = {change.batch: change for change in self.changes() if change.action == "added"}
        unknown = [batch for batch in batches if batch not in added]
        if unknown:
            raise DataError(
                f"unknown batch {unknown[0][:12]} of {self.dataset}: {self.chain.place} was "
                "altered; restore it from a backup"
            )
        return [added[batch] for batch in batches]

    @contextlib.contextmanager
    def changing(self) -> Iterator["Changing"]:
        """Hold the lock on the versions while a batch is validated and added or removed."""
        lock = self.folder.with_suffix(".lock")
        with hold(lock, f"waiting for another change to {self.dataset}"):
            lines = self.chain.read()
            yield Changing(self, self._parsed(lines), lines)

    def _parsed(self, lines: Lines) -> list[Change]:
        changes: list[Change] = []
        for number, line in enumerate(lines.lines, start=1):
            try:
                change = Change.model_validate_json(line.text)
            except ValidationError as error:
                problem = error.errors()[0]["msg"]
                raise self.chain.problem(number, f"is not a dataset change: {problem}") from error
            if change.dataset != self.dataset or change.version != number + 1:
                what = f"is for version {change.version} of {change.dataset}"
                raise self.chain.problem(
                    number, f"{what}, expected version {number + 1} of {self.dataset}"
                )
            changes.append(change)
        return changes


class Changing:
    """The versions while their lock is held."""

    def __init__(self, versions: DatasetVersions, changes: list[Change], lines: Lines) -> None:
        self.versions, self.changes, self._lines = versions, changes, lines

    @property
    def current(self) -> DatasetVersion:
        """The current version."""
        return version_of(self.changes)

    def add(
        self, batch: str, *, manifest: str, source: str, files: Mapping[str, str], growth: Growth
    ) -> Change:
        """Create a version with this batch, which must be stored already. Raises DataError."""
        return self._append(
            action="added",
            batch=batch,
            manifest=manifest,
            source=source,
            files=files,
            growth=growth,
        )

    def remove(self, batch: str) -> Change:
        """Create a version without the batch whose digest starts with `batch`.

        Raises UsageError if no batch of the current version matches, or more than one.
        """
        here = self.current.batches
        found = [change for change in here if batch and change.batch.startswith(batch)]
        if len(found) != 1:
            known = ", ".join(change.batch[:12] for change in here) or "none"
            num = f"{len(found)} batches that start with" if found else "no batch"
            raise UsageError(f"{self.versions.dataset} has {num} {batch!r} (batches: {known})")
        return self._append(
            action="removed", batch=found[0].batch, manifest=found[0].manifest, source="by hand"
        )

    def _append(self, **facts: object) -> Change:
        versions = self.versions
        change = Change.model_validate(
            {
                "version": len(self.changes) + 2,
                "time": datetime.now(UTC),
                "dataset": versions.dataset,
                **facts,
            }
        )
        fields = change.model_dump(mode="json", exclude={"previous", "digest"})
        links = {"previous": self._lines.last_digest}
        try:
            self._lines = versions.chain.append(fields, self._lines)
        except OSError as error:
            raise DataError(
                f"cannot write {versions.chain.place}: {error.strerror or error}; the dataset is "
                "unchanged; free some space or fix the permissions, then try again"
            ) from error
        links["digest"] = self._lines.last_digest
        self.changes.append(change.model_copy(update=links))
        return self.changes[-1]


def version_of(changes: list[Change]) -> DatasetVersion:
    """Return the dataset version after these changes."""
    batches: dict[str, Change] = {}
    for change in changes:
        # A batch that is added again goes to the end.
        batches.pop(change.batch, None)
        if change.action == "added":
            batches[change.batch] = change
    return DatasetVersion(number=len(changes) + 1, batches=tuple(batches.values()))
