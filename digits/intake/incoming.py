"""Incoming batches, and the outcome of adding them.

Each file, folder, or pair of IDX or .npy files in the watched folder, data/incoming/NAME, is one
batch. Write it elsewhere and move it in, or give it a name that begins with a dot or ends in .part
until it is complete: such names are ignored.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from digits.datasets.files.file_names import KINDS, parse_name
from digits.datasets.files.ignored import is_ignored
from digits.datasets.growth import Growth
from digits.datasets.versions import DatasetVersions, version_of
from digits.intake.claims import left_claims
from digits.layouts import LAYOUTS
from digits.settings import Settings
from digits.storage.files import printable
from digits.storage.references import Frozen
from digits.thresholds import SPLITS
from digits.validation.findings import PAGE_FILE

logger = logging.getLogger(__name__)

PARTIAL = ".part"


@dataclass(frozen=True)
class Entry:
    """The paths of one batch: a file, a folder, or the files of a pair."""

    paths: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Name for messages."""
        return printable(" and ".join(path.name for path in self.paths))


class Addition(Frozen):
    """The outcome of adding a batch.

    `batch` is the digest of its images and labels, empty if it was refused, or left where it is
    because the operating system refused something; `version` is the dataset version afterwards.
    `reasons` and `page` say why; `warnings` are the failed checks that only warn.
    """

    dataset: str
    source: str
    status: Literal["accepted", "known", "quarantined", "left"]
    version: int
    batch: str = ""
    growth: Growth = Growth()
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    page: Path | None = None

    def describe(self) -> str:
        """The outcome in one line."""
        if self.status == "accepted":
            train, test = self.growth.train.num_images, self.growth.test.num_images
            return (
                f"{self.source}: added as batch {self.batch[:12]}: {train + test:,} images, "
                f"{train:,} to train and {test:,} to test; "
                f"{self.dataset} is now at dataset version {self.version}"
            )
        if self.status == "known":
            return (
                f"{self.source}: {self.dataset} already has this batch ({self.batch[:12]}) and "
                f"stays at dataset version {self.version}"
            )
        if self.status == "left":
            return f"{self.source}: left in the incoming folder: {'; '.join(self.reasons)}"
        return (
            f"{self.source}: refused, nothing was added to {self.dataset}: "
            f"{'; '.join(self.reasons)}; see {self.page}"
        )


def incoming_folder(dataset: str, settings: Settings) -> Path:
    """The folder for a dataset's incoming batches."""
    return settings.data_dir / "incoming" / dataset


def quarantine_folder(dataset: str, settings: Settings) -> Path:
    """The folder of a dataset's refused batches: one folder each, with the files and a page."""
    return settings.data_dir / "quarantine" / dataset


def refusals(dataset: str, settings: Settings) -> list[Path]:
    """The pages of all refused batches that are still in quarantine."""
    return sorted(quarantine_folder(dataset, settings).glob(f"[!.]*/{PAGE_FILE}"))


def waiting(dataset: str, settings: Settings) -> list[Entry]:
    """The batches in the incoming folder, by name; half a pair of files is not a batch yet.

    If two files could be the same half of a pair, they are one batch with the other half.
    """
    folder = incoming_folder(dataset, settings)
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    grouped: defaultdict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in names:
        if not is_ignored(path.name) and not path.name.endswith(PARTIAL):
            grouped[_batch_of(path)].append(path)
    entries = []
    for (kind, *_), paths in grouped.items():
        missing = set(KINDS) - {parse_name(path.name).kind for path in paths}
        if kind == "pair" and missing:
            logger.info(
                "%s: waiting for the matching %s file",
                ", ".join(map(str, paths)),
                " and ".join(missing),
            )
        else:
            entries.append(Entry(tuple(paths)))
    return entries


def _batch_of(path: Path) -> tuple[str, ...]:
    """What the files of one batch have in common: pairs by name, other files and folders alone."""
    named = parse_name(path.name)
    is_idx = LAYOUTS["idx"].matches(path.name)
    is_array = path.suffix.lower() == ".npy"
    if named.kind is None or path.is_dir() or not (is_idx or is_array):
        return ("", path.name)
    return ("pair", "idx" if is_idx else "npy", named.stem, named.split or "")


def names_waiting(dataset: str, settings: Settings) -> list[str]:
    """The names of the batches in the incoming folder, including those that are claimed."""
    claimed = left_claims(incoming_folder(dataset, settings))
    names = [entry.name for entry in waiting(dataset, settings)]
    return [*names, *(printable(path.name) for path in claimed)]


def describe_versions(dataset: str, settings: Settings) -> dict[str, Any]:
    """The changes of a dataset, its incoming batches, and the pages of its refused batches."""
    changes = DatasetVersions(dataset, settings).changes()
    return {
        "dataset": dataset,
        "version": version_of(changes).number,
        "changes": [
            {
                "version": change.version,
                "time": change.time.isoformat(timespec="seconds"),
                "action": change.action,
                "batch": change.batch,
                "num_train": change.growth.train.num_images,
                "num_test": change.growth.test.num_images,
                "class_sizes": {split: change.growth.of(split).class_sizes for split in SPLITS},
                "source": change.source,
            }
            for change in changes
        ],
        "waiting": names_waiting(dataset, settings),
        "quarantined": [str(page) for page in refusals(dataset, settings)],
    }
