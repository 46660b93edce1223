"""Surveys files of labeled images: reads them all once to find out what they contain."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import RawChunk
from digits.datasets.formats.readers import read_raw
from digits.errors import DataError
from digits.spec import MAX_SIDE, MIN_SIDE, Column, ImageShape, PixelRange, ReadOptions

MAX_CLASSES = 1000
# Usual values of the brightest pixel: fractions, 4 bits, scikit-learn, 8 bits, 16 bits.
USUAL_HIGHS = (1, 15, 16, 255, 65535)
NUM_LOOKED_AT = 2000
WHOLE = re.compile(r"-?\d{1,15}(\.0*)?")

Label = str | int
# Rows without a label are a defect, not a class.
NO_LABELS: frozenset[Label] = frozenset({"", "nan"})


@dataclass
class Survey:
    """What the files contain: image size, pixel values, labels, and any test split."""

    read_options: ReadOptions
    image_shape: ImageShape
    is_square_assumed: bool
    lowest: float = math.inf
    highest: float = -math.inf
    labels: set[Label] = field(default_factory=set)
    is_split: bool = False
    num_images: int = 0

    @property
    def pixel_range(self) -> PixelRange:
        """The values of no ink and of full ink, derived from the lowest and highest values seen."""
        largest = max(self.highest, -self.lowest)
        high = next((high for high in USUAL_HIGHS if largest <= high), None)
        if high is None:
            raise DataError(
                f"pixel values {self.lowest:g} to {self.highest:g}: out of range (expected at most "
                f"{USUAL_HIGHS[-1]:,}); scale them first"
            )
        return (0, high) if self.lowest >= 0 else (-high, high)

    @property
    def numbers(self) -> list[int]:
        """The labels in order if all of them are numbers; otherwise empty."""
        numbers = sorted(label for label in self.labels if isinstance(label, int))
        return numbers if len(numbers) == len(self.labels) else []

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in order: numbers by value, other labels alphabetically."""
        return tuple(map(str, self.numbers)) or tuple(sorted(map(str, self.labels)))

    def add(self, batch: RawChunk) -> None:
        """Add a chunk of rows to the survey."""
        values = batch.values[np.isfinite(batch.values)] if len(batch.values) else batch.values
        if values.size:
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))
        labels = {_plain(label) for label in np.unique(batch.labels).tolist()}
        self.labels |= labels - NO_LABELS
        if len(self.labels) > MAX_CLASSES:
            raise DataError(
                f"{batch.names[0]}: more than {MAX_CLASSES:,} different labels up to here, such as "
                f"{', '.join(map(repr, islice(self.labels, 3)))} (expected one per class); "
                "set the column of the labels with --label-column"
            )
        self.is_split |= batch.split == "test"
        self.num_images += len(batch.labels)


def survey(
    files: Sequence[Path], read_options: ReadOptions, image_shape: ImageShape | None
) -> Survey:
    """Read the files once. Raises DataError if they are not labeled images of one size.

    `image_shape` is that of upright images, if it is known.
    """
    if read_options.file_layout == "csv" and read_options.label_column is None:
        label_column = _guess_label_column(files)
        read_options = read_options.model_copy(update={"label_column": label_column})
    stored = read_options.stored(image_shape) if image_shape else None
    defects = Defects(read_options.severity)
    seen: Survey | None = None
    for chunk in read_raw(files, stored, read_options, defects):
        if seen is None:
            shape, is_assumed = _shape_of(chunk, stored)
            seen = Survey(read_options, read_options.stored(shape), is_assumed)
        seen.add(chunk)
    defects.refuse_errors()
    if seen is None or not seen.num_images:
        raise DataError(f"{files[0]}: no images found")
    if len(seen.labels) < 2:
        raise DataError(
            f"{files[0]}: only one class, {', '.join(map(str, seen.labels))} (expected two or more)"
        )
    return seen


def _shape_of(batch: RawChunk, given: ImageShape | None) -> tuple[ImageShape, bool]:
    """The size of the images, and whether it was only assumed that they are square."""
    if batch.values.ndim == 3:
        height, width = batch.values.shape[1:]
    elif given:
        height, width = given
    else:
        height = width = math.isqrt(batch.values.shape[1])
        if height * width != batch.values.shape[1]:
            raise DataError(
                f"{batch.names[0]}: {batch.values.shape[1]:,} pixels are not a square; set the "
                "size with --image-shape HEIGHT WIDTH"
            )
    for side in (height, width):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise DataError(
                f"{batch.names[0]}: image size {height} x {width} out of range (expected "
                f"{MIN_SIDE} x {MIN_SIDE} to {MAX_SIDE} x {MAX_SIDE} pixels)"
            )
    return (height, width), not given and batch.values.ndim == 2


def _guess_label_column(files: Sequence[Path]) -> Column | None:
    """The first or last column of a CSV, whichever has classes; None if a header names it."""
    from digits.datasets.formats.csv_files import label_by_header

    if label_by_header(min(files)) is not None:
        return None
    for column in (0, -1):
        read_options = ReadOptions(file_layout="csv", label_column=column)
        labels: set[Label] = set()
        for chunk in islice(read_raw(files, None, read_options, Defects()), 1):
            labels = {_plain(label) for label in chunk.labels[:NUM_LOOKED_AT].tolist()}
        if _are_classes(labels):
            return column
    raise DataError(
        f"{files[0]}: no labels in the first or the last column (expected 0, 1, 2 and so on, or "
        "text); set their column with --label-column NAME or NUMBER"
    )


def _are_classes(labels: Iterable[Label]) -> bool:
    found = set(labels)
    if len(found) < 2 or "" in found:
        return False
    if not all(_is_whole(label) for label in found):
        return not any(_is_fraction(label) for label in found)
    return {int(label) for label in found} == set(range(len(found)))


def _plain(label: Any) -> Label:
    """A label as an integer if it is one or the text of one, otherwise as text."""
    text = str(label).strip()
    return int(float(text)) if WHOLE.fullmatch(text) else text


def _is_whole(label: Label) -> bool:
    return isinstance(label, int)


def _is_fraction(label: Label) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return not _is_whole(label)
