"""A dataset as one row per image: the frame that the expectations are evaluated on.

Great Expectations on 784 columns of pixels takes half a minute; on these few columns a third of a
second. The images stream through in batches, so that only the summary is held in memory.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from digits.centroids import nearest_classes
from digits.errors import DataError
from digits.images import Images, Labels
from digits.thresholds import SPLITS, Split

BRIGHT = 127
"""A pixel above this counts as ink."""

COLUMNS = (
    "label",
    "class_size",
    "pixel_min",
    "pixel_max",
    "pixel_mean",
    "ink",
    "is_duplicate",
    "is_shared",
    "is_near_duplicate",
    "is_label_repeat",
)
CENTROID_COLUMN = "is_centroid_hit"

Column = npt.NDArray[Any]
Batches = Iterable[tuple[Images, Labels]]


def summarize(
    splits: Mapping[Split, Batches], centroids: Images | None = None
) -> dict[Split, pd.DataFrame]:
    """One frame per split, one row per image in the order of the file.

    `splits` gives, for each split, batches of images (n, height, width) uint8 and labels (n,).
    Columns:
        label: as in the file; class_size: number of rows that have this label
        pixel_min, pixel_max, pixel_mean: of the image, 0..255; ink: share of its pixels above 127
        is_duplicate: equals an earlier image of its split
        is_shared: equals an image of the other split
        is_near_duplicate: equals one of the other split after thresholding, but not before
        is_label_repeat: its label equals that of the row before
        is_centroid_hit: the nearest centroid is that of its label; absent without `centroids`

    No column can hold a null: the pixels are uint8, which knows no NaN.

    Raises:
        DataError: a split has no images.
    """
    measured = {split: _measure(split, splits[split], centroids) for split in SPLITS}
    train, test = measured["train"], measured["test"]
    return {"train": _frame(train, other=test), "test": _frame(test, other=train)}


def _measure(split: Split, batches: Batches, centroids: Images | None) -> dict[str, Column]:
    """What can be said of each image by itself, as one array per column."""
    parts = list(_measured_batches(batches, centroids))
    if not parts:
        # Great Expectations would pass it: a range holds of no rows.
        raise DataError(f"The {split} split holds no images, expected at least one of each class")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measured_batches(batches: Batches, centroids: Images | None) -> Iterator[dict[str, Column]]:
    for images, labels in filter(lambda batch: len(batch[0]), batches):
        pixels = images.reshape(len(images), -1)
        is_bright = pixels > BRIGHT
        part: dict[str, Column] = {
            "label": labels,
            "pixel_min": pixels.min(axis=1),
            "pixel_max": pixels.max(axis=1),
            "pixel_mean": pixels.mean(axis=1, dtype=np.float64),
            "ink": is_bright.mean(axis=1, dtype=np.float64),
            "digest": _digests(pixels),
            "bright_digest": _digests(np.packbits(is_bright, axis=1)),
        }
        if centroids is not None:
            part[CENTROID_COLUMN] = nearest_classes(images, centroids) == labels
        yield part


def _digests(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """A 64-bit digest of each row: two of a million different images share one with p = 3e-8."""
    contiguous = np.ascontiguousarray(rows)
    digests = (hashlib.blake2b(row, digest_size=8).digest() for row in contiguous)
    return np.frombuffer(b"".join(digests), np.uint64)


def _frame(split: dict[str, Column], other: dict[str, Column]) -> pd.DataFrame:
    """Add to a split's columns what depends on its other rows and on the other split."""
    label, digest = split["label"], split["digest"]
    _, class_index, class_sizes = np.unique(label, return_inverse=True, return_counts=True)
    _, first_rows = np.unique(digest, return_index=True)
    is_duplicate = np.ones(len(label), bool)
    is_duplicate[first_rows] = False
    is_shared = np.isin(digest, other["digest"])
    columns = split | {
        "class_size": class_sizes[class_index],
        "is_duplicate": is_duplicate,
        "is_shared": is_shared,
        "is_near_duplicate": np.isin(split["bright_digest"], other["bright_digest"]) & ~is_shared,
        "is_label_repeat": np.concatenate([[False], label[1:] == label[:-1]]),
    }
    names = (*COLUMNS, CENTROID_COLUMN) if CENTROID_COLUMN in columns else COLUMNS
    return pd.DataFrame({name: columns[name] for name in names})
