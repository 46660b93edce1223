"""The versions of a dataset: which batches were added to it and taken out again, a line each.

The first version is what the spec names. Each line of data/batches/NAME.jsonl, chained as the
ledger is, makes another; which batches a version has is what the lines up to it say, nothing else.
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
from digits.storage.chain import Chain, Lines
from digits.storage.locks import hold
from digits.storage.references import Digest, Frozen

CONTENT_KEY = "batch {:04}"


class Change(Frozen):
    """One line: a batch that came or went, and what the dataset has been since.

    `batch` is the digest of its images and labels, `manifest` that of its files as they are kept,
    `files` those of the files that it came in, by name. `growth` is empty where one went.
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
    """A dataset as it is at one moment: its number, and its batches in their order."""

    number: int
    batches: tuple[Change, ...]

    @property
    def growth(self) -> Growth:
        """What the batches have added to what the spec names."""
        return total(batch.growth for batch in self.batches)

    @property
    def content(self) -> dict[str, str]:
        """The digests of the batches, by names that keep their order."""
        return {CONTENT_KEY.format(n): b.batch for n, b in enumerate(self.batches, start=1)}

    def describe(self) -> str:
        """The version in a few words."""
        num = len(self.batches)
        return f"version {self.number}" + (f", {num} batch{'es' * (num > 1)}" if num else "")

    def find(self, batch: str) -> Change | None:
        """The batch of this digest; None where this version has none."""
        return next((change for change in self.batches if change.batch == batch), None)


class DatasetVersions:
    """All versions of one dataset."""

    def __init__(self, dataset: str, settings: Settings) -> None:
        self.dataset = dataset
        self.folder = settings.data_dir / "batches" / dataset
        self.chain = Chain(self.folder.with_suffix(".jsonl"))

    def changes(self) -> list[Change]:
        """All lines, oldest first. Raises LedgerError at the first that is not as written."""
        return self._parsed(self.chain.read())

    def current(self) -> DatasetVersion:
        """The dataset as it is now."""
        return version_of(self.changes())

    def folder_of(self, batch: str) -> Path:
        """Where a batch is kept."""
        return self.folder / batch

    def kept(self, batches: Collection[str]) -> list[Change]:
        """How these batches were added last, be they removed since. Raises DataError."""
        added = {change.batch: change for change in self.changes() if change.action == "added"}
        unknown = [batch for batch in batches if batch not in added]
        if unknown:
            raise DataError(
                f"{self.dataset} never had a batch {unknown[0][:12]}: {self.chain.path} is not "
                "what it was; put it back from a copy"
            )
        return [added[batch] for batch in batches]

    @contextlib.contextmanager
    def changing(self) -> Iterator["Changing"]:
        """Hold the versions while a batch is judged and added: no other comes between."""
        lock = self.folder.with_suffix(".lock")
        with hold(lock, f"waiting for another batch of {self.dataset}"):
            lines = self.chain.read()
            yield Changing(self, self._parsed(lines), lines)

    def _parsed(self, lines: Lines) -> list[Change]:
        changes: list[Change] = []
        for number, line in enumerate(lines.lines, start=1):
            try:
                change = Change.model_validate_json(line.text)
            except ValidationError as error:
                problem = error.errors()[0]["msg"]
                raise self.chain.problem(number, f"is no change of a dataset: {problem}") from error
            if change.dataset != self.dataset or change.version != number + 1:
                what = f"is about version {change.version} of {change.dataset}"
                raise self.chain.problem(number, f"{what}, not {number + 1} of {self.dataset}")
            changes.append(change)
        return changes


class Changing:
    """The versions as they stand while they are held."""

    def __init__(self, versions: DatasetVersions, changes: list[Change], lines: Lines) -> None:
        self.versions, self.changes, self._lines = versions, changes, lines

    @property
    def current(self) -> DatasetVersion:
        """The dataset at this moment."""
        return version_of(self.changes)

    def add(
        self, batch: str, *, manifest: str, source: str, files: Mapping[str, str], growth: Growth
    ) -> Change:
        """Make another version, with this batch; it is kept already. Raises DataError."""
        return self._append(
            action="added",
            batch=batch,
            manifest=manifest,
            source=source,
            files=files,
            growth=growth,
        )

    def remove(self, batch: str) -> Change:
        """Make another version, without the batch whose digest begins so.

        Raises UsageError where there is none in the present version, or more than one.
        """
        here = self.current.batches
        found = [change for change in here if batch and change.batch.startswith(batch)]
        if len(found) != 1:
            known = ", ".join(change.batch[:12] for change in here) or "none"
            what = f"{len(found)} batches begin with {batch!r}" if found else f"no batch {batch!r}"
            raise UsageError(f"{self.versions.dataset} has {what}, it has {known}")
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
                f"cannot write {versions.chain.path}: {error.strerror or error}; the dataset is as "
                "it was; make room or give write permission, and try again"
            ) from error
        links["digest"] = self._lines.last_digest
        self.changes.append(change.model_copy(update=links))
        return self.changes[-1]


def version_of(changes: list[Change]) -> DatasetVersion:
    """What the changes have made of a dataset."""
    batches: dict[str, Change] = {}
    for change in changes:
        # One that comes back goes to the end.
        batches.pop(change.batch, None)
        if change.action == "added":
            batches[change.batch] = change
    return DatasetVersion(number=len(changes) + 1, batches=tuple(batches.values()))
