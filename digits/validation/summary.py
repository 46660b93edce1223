"""Summarizes a dataset in frames with one row per image, which the expectations are evaluated on.

Great Expectations takes half a minute on 784 pixel columns, but a third of a second on these few
columns. Images are streamed in chunks, so that only the summary is kept in memory.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from digits.datasets.images import Images, Labels
from digits.errors import DataError
from digits.thresholds import IMAGE_CHECKS, SPLITS, Split
from digits.validation.centroids import nearest_classes
from digits.validation.image_measures import BRIGHT

COLUMNS = (
    "label",
    "class_size",
    *IMAGE_CHECKS,
    "pixel_mean",
    "contrast",
    "is_inverted",
    "is_duplicate",
    "is_shared",
    "is_near_duplicate",
    "is_conflict",
    "is_label_repeat",
)
CENTROID_COLUMN = "is_centroid_hit"

Column = npt.NDArray[Any]
Columns = dict[str, Column]
"""Measurements of single images, including their digests: one array per name."""
Chunks = Iterable[tuple[Images, Labels]]


def summarize(
    splits: Mapping[Split, Chunks], centroids: Images | None = None
) -> dict[Split, pd.DataFrame]:
    """Return one frame per split, with one row per image in the order of the file.

    `splits` contains, for each split, chunks of images (n, height, width) uint8 and labels (n,).
    Columns:
        label: as in the file; class_size: number of rows with this label
        each of IMAGE_CHECKS: its measurement of the image
        pixel_mean: of the image, 0..255; contrast: pixel_max - pixel_min
        is_inverted: the background is light and that of most train images dark, or vice versa
        is_duplicate: equals an earlier image of its split
        is_shared: equals an image of the other split
        is_near_duplicate: equals one of the other split after thresholding, but not before
        is_conflict: equals an image of either split that has another label
        is_label_repeat: the label equals the previous row's
        is_centroid_hit: the nearest centroid is that of the label; absent without `centroids`

    No column can contain nulls, because the pixels are uint8, which has no NaN.

    Raises:
        DataError: a split has no images.
    """
    return frames_of({split: measure(splits[split], centroids) for split in SPLITS})


def measure(batches: Chunks, centroids: Images | None = None) -> Columns:
    """Measure each image by itself; empty if there are no images."""
    return join(list(_measured_batches(batches, centroids)))


def join(parts: Sequence[Columns]) -> Columns:
    """Concatenate the rows of several parts."""
    filled = [part for part in parts if part]
    return (
        {name: np.concatenate([part[name] for part in filled]) for name in filled[0]}
        if filled
        else {}
    )


def frames_of(measured: Mapping[Split, Columns]) -> dict[Split, pd.DataFrame]:
    """Return the frames of both splits from their measurements; see summarize."""
    for split in SPLITS:
        if not measured[split]:
            # Great Expectations would pass it: without rows, nothing is out of range.
            raise DataError(
                f"the {split} split has no images (expected at least one of each class)"
            )
    train, test = measured["train"], measured["test"]
    is_light = is_mostly_light(train)
    conflicts = conflicting_digests(join([train, test]))
    return {
        "train": frame_of(train, other=test, is_light=is_light, conflicts=conflicts),
        "test": frame_of(test, other=train, is_light=is_light, conflicts=conflicts),
    }


def is_mostly_light(columns: Columns) -> bool:
    """Return whether most images have dark strokes on a light background."""
    return bool(columns["has_light_ground"].mean() > 0.5)


def conflicting_digests(columns: Columns) -> Column:
    """Return the digests of images that occur with more than one label."""
    order = np.lexsort((columns["label"], columns["digest"]))
    label, digest = columns["label"][order], columns["digest"][order]
    return np.unique(digest[1:][(digest[1:] == digest[:-1]) & (label[1:] != label[:-1])])


def _measured_batches(batches: Chunks, centroids: Images | None) -> Iterator[Columns]:
    for images, labels in filter(lambda chunk: len(chunk[0]), batches):
        pixels = images.reshape(len(images), -1)
        measured = {name: check.of(images) for name, check in IMAGE_CHECKS.items()}
        darkest, brightest = measured["pixel_min"], measured["pixel_max"]
        part: Columns = {
            "label": labels,
            **measured,
            "contrast": brightest - darkest,
            "has_light_ground": _has_light_ground(images, darkest, brightest),
            "pixel_mean": pixels.mean(axis=1, dtype=np.float64),
            "digest": _digests(pixels),
            "bright_digest": _digests(np.packbits(pixels > BRIGHT, axis=1)),
        }
        if centroids is not None:
            part[CENTROID_COLUMN] = nearest_classes(images, centroids) == labels
        yield part


def _has_light_ground(images: Images, darkest: Column, brightest: Column) -> Column:
    """Whether most edge pixels of each image are closer to its brightest than its darkest pixel."""
    edges = (images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1])
    twice_the_middle = darkest.astype(np.uint16) + brightest
    is_bright = 2 * np.concatenate(edges, axis=1).astype(np.uint16) > twice_the_middle[:, None]
    return np.asarray(is_bright.mean(axis=1) > 0.5)


def _digests(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """A 64-bit digest of each row; the chance of a collision in a million images is 3e-8."""
    contiguous = np.ascontiguousarray(rows)
    digests = (hashlib.blake2b(row, digest_size=8).digest() for row in contiguous)
    return np.frombuffer(b"".join(digests), np.uint64)


def frame_of(split: Columns, other: Columns, is_light: bool, conflicts: Column) -> pd.DataFrame:
    """Add the columns that depend on the split's other rows and on the other split.

    `is_light`: whether most train images have a light background; `conflicts`: digests of images
    with more than one label.
    """
    label, digest = split["label"], split["digest"]
    _, class_index, class_sizes = np.unique(label, return_inverse=True, return_counts=True)
    _, first_rows = np.unique(digest, return_index=True)
    is_duplicate = np.ones(len(label), bool)
    is_duplicate[first_rows] = False
    is_shared = np.isin(digest, other["digest"])
    columns = split | {
        "class_size": class_sizes[class_index],
        "is_inverted": split["has_light_ground"] != is_light,
        "is_duplicate": is_duplicate,
        "is_shared": is_shared,
        "is_near_duplicate": np.isin(split["bright_digest"], other["bright_digest"]) & ~is_shared,
        "is_conflict": np.isin(digest, conflicts),
        "is_label_repeat": np.concatenate([[False], label[1:] == label[:-1]])[: len(label)],
    }
    names = (*COLUMNS, CENTROID_COLUMN) if CENTROID_COLUMN in columns else COLUMNS
    return pd.DataFrame({name: columns[name] for name in names})
