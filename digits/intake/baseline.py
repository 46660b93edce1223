"""The current images of a dataset, as the baseline that a new batch is compared with."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from digits.datasets.growth import Growth, SplitGrowth
from digits.datasets.images import Images, Labels
from digits.thresholds import SPLITS, Split
from digits.validation.centroids import compute_centroids
from digits.validation.summary import (
    CENTROID_COLUMN,
    Columns,
    conflicting_digests,
    frame_of,
    frames_of,
    is_mostly_light,
    join,
    measure,
)

Rows = Iterable[tuple[Split, Images, Labels]]
Mask = npt.NDArray[np.bool_]

NOT_OF_A_BATCH = ("class_size", "is_label_repeat")
"""Columns about a complete split, or about the order of rows, which a batch does not keep."""
KNOWN_COLUMN = "is_known"


@dataclass(frozen=True)
class Baseline:
    """A dataset as measured by validation.summary.measure, and the mean image of each class."""

    measured: Mapping[Split, Columns]
    centroids: Images

    @classmethod
    def of(cls, rows: Callable[[], Rows], num_classes: int, centroids: Images | None) -> "Baseline":
        """Measure a dataset. `rows` returns all of it; without centroids it is called twice.

        Raises DataError if a split, or a class of train, has no images.
        """
        if centroids is None:
            train = ((images, labels) for split, images, labels in rows() if split == "train")
            centroids = compute_centroids(train, num_classes)
        parts: dict[Split, list[Columns]] = {split: [] for split in SPLITS}
        for split, images, labels in rows():
            parts[split].append(measure([(images, labels)], centroids))
        return cls({split: join(parts[split]) for split in SPLITS}, centroids)

    def frame(self, batch: Columns, is_test: Mask) -> pd.DataFrame:
        """The batch as one row per image; validation.summary.summarize explains most columns.

        Each row is compared with the dataset as part of the split it would go to: is_known says
        whether that split already has the image.
        """
        is_light = is_mostly_light(self.measured["train"])
        conflicts = conflicting_digests(join([batch, *self.measured.values()]))
        parts = []
        for split, other in zip(SPLITS, reversed(SPLITS), strict=True):
            rows = np.flatnonzero(is_test == (split == "test"))
            mine = take(batch, rows)
            frame = frame_of(mine, self.measured[other], is_light=is_light, conflicts=conflicts)
            is_known = np.isin(mine["digest"], self.measured[split]["digest"])
            parts.append(frame.assign(**{KNOWN_COLUMN: is_known}).set_index(rows))
        return pd.concat(parts).sort_index().drop(columns=list(NOT_OF_A_BATCH))

    def frames(self) -> dict[Split, pd.DataFrame]:
        """The dataset as the frames of digits.validation.summary.summarize."""
        return frames_of(self.measured)

    def grown(self, batch: Columns, is_test: Mask) -> "Baseline":
        """The baseline with a batch added to it."""
        parts = {"train": take(batch, ~is_test), "test": take(batch, is_test)}
        measured = {split: join([self.measured[split], parts[split]]) for split in SPLITS}
        return Baseline(measured, self.centroids)

    def centroid_accuracy(self) -> float:
        """Share of train images that are nearest to the mean image of their own class."""
        return float(self.measured["train"][CENTROID_COLUMN].mean())


def growth_between(
    before: Mapping[Split, pd.DataFrame], after: Mapping[Split, pd.DataFrame], num_classes: int
) -> Growth:
    """How much the counts of a dataset grew from one set of frames to the other."""

    def grown(split: Split) -> SplitGrowth:
        def more(column: str) -> int:
            return int(after[split][column].sum() - before[split][column].sum())

        def sizes(frame: pd.DataFrame) -> npt.NDArray[Any]:
            return np.bincount(frame["label"], minlength=num_classes)

        return SplitGrowth(
            class_sizes=tuple((sizes(after[split]) - sizes(before[split])).tolist()),
            duplicates=more("is_duplicate"),
            shared_images=more("is_shared"),
            near_duplicates=more("is_near_duplicate"),
        )

    return Growth(train=grown("train"), test=grown("test"))


def take(columns: Columns, rows: npt.NDArray[Any]) -> Columns:
    """Select rows by number or by mask."""
    return {name: column[rows] for name, column in columns.items()}
