"""What files of labelled images look like, found by reading them all once."""

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
# The value of the brightest pixel, usually: shares, 4 bits, scikit-learn, 8 bits, 16 bits.
USUAL_HIGHS = (1, 15, 16, 255, 65535)
NUM_LOOKED_AT = 2000
WHOLE = re.compile(r"-?\d{1,15}(\.0*)?")

Label = str | int


@dataclass
class Survey:
    """What was seen: the size of the images, their values, their labels, and what they are for."""

    file_layout: str
    image_shape: ImageShape
    label_column: Column | None
    is_square_assumed: bool
    lowest: float = math.inf
    highest: float = -math.inf
    labels: set[Label] = field(default_factory=set)
    is_split: bool = False
    num_images: int = 0

    @property
    def pixel_range(self) -> PixelRange:
        """The values of no and of most ink, told by the lowest and the highest that were seen."""
        largest = max(self.highest, -self.lowest)
        high = next((high for high in USUAL_HIGHS if largest <= high), None)
        if high is None:
            raise DataError(
                f"the pixels are from {self.lowest:g} to {self.highest:g}, expected at most "
                f"{USUAL_HIGHS[-1]:,}: scale them first"
            )
        return (0, high) if self.lowest >= 0 else (-high, high)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in their order: numbers by size, other labels by the alphabet."""
        numbers = [int(label) for label in self.labels if _is_whole(label)]
        if len(numbers) == len(self.labels):
            return tuple(str(number) for number in sorted(set(numbers)))
        return tuple(sorted(str(label).strip() for label in self.labels))

    def add(self, batch: RawChunk) -> None:
        """Look at some rows."""
        values = batch.values[np.isfinite(batch.values)] if len(batch.values) else batch.values
        if values.size:
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))
        self.labels |= {_plain(label) for label in np.unique(batch.labels).tolist()}
        if len(self.labels) > MAX_CLASSES:
            raise DataError(
                f"{batch.names[0]} and before: more than {MAX_CLASSES:,} different labels, as "
                f"{', '.join(map(repr, islice(self.labels, 3)))}; expected a class for each image: "
                "say with --label-column where it stands"
            )
        self.is_split |= batch.split is not None
        self.num_images += len(batch.labels)


def survey(
    files: Sequence[Path],
    file_layout: str,
    image_shape: ImageShape | None,
    label_column: Column | None,
) -> Survey:
    """Read the files once. Raises DataError for what cannot be images of one size and labels."""
    if file_layout == "csv" and label_column is None:
        label_column = _guess_label_column(files)
    defects = Defects()
    read_options = ReadOptions(file_layout=file_layout, label_column=label_column)
    seen: Survey | None = None
    for batch in read_raw(files, image_shape, read_options, defects):
        if seen is None:
            shape, is_assumed = _shape_of(batch, image_shape)
            seen = Survey(file_layout, shape, label_column, is_assumed)
        seen.add(batch)
    defects.enforce()
    if seen is None or not seen.num_images:
        raise DataError(f"{files[0]} holds no images")
    if len(seen.labels) < 2:
        raise DataError(
            f"{files[0]} holds one class, {', '.join(map(str, seen.labels))}, expected two at least"
        )
    return seen


def _shape_of(batch: RawChunk, given: ImageShape | None) -> tuple[ImageShape, bool]:
    """The size of the images, and whether they were only assumed to be squares."""
    if batch.values.ndim == 3:
        height, width = batch.values.shape[1:]
    elif given:
        height, width = given
    else:
        height = width = math.isqrt(batch.values.shape[1])
        if height * width != batch.values.shape[1]:
            raise DataError(
                f"{batch.names[0]} holds {batch.values.shape[1]:,} pixels, which are no square: "
                "say the size with --image-shape HEIGHT WIDTH"
            )
    for side in (height, width):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise DataError(
                f"{batch.names[0]} is an image of {height} x {width} pixels, expected "
                f"{MIN_SIDE} x {MIN_SIDE} to {MAX_SIDE} x {MAX_SIDE}"
            )
    return (height, width), not given and batch.values.ndim == 2


def _guess_label_column(files: Sequence[Path]) -> Column | None:
    """The first or the last column of a CSV, whichever looks like classes; None for its header."""
    from digits.datasets.formats.csv_files import label_by_header

    if label_by_header(min(files)) is not None:
        return None
    for column in (0, -1):
        read_options = ReadOptions(file_layout="csv", label_column=column)
        labels: set[Label] = set()
        for batch in islice(read_raw(files, None, read_options, Defects()), 1):
            labels = {_plain(label) for label in batch.labels[:NUM_LOOKED_AT].tolist()}
        if _are_classes(labels):
            return column
    raise DataError(
        f"{files[0]}: neither the first nor the last column looks like a label (0, 1, 2 and so on, "
        "or text): say with --label-column NAME or NUMBER where it stands"
    )


def _are_classes(labels: Iterable[Label]) -> bool:
    found = set(labels)
    if len(found) < 2 or "" in found:
        return False
    if not all(_is_whole(label) for label in found):
        return not any(_is_fraction(label) for label in found)
    return {int(label) for label in found} == set(range(len(found)))


def _plain(label: Any) -> Label:
    """A label as a whole number, where it is one or the text of one, or else as text."""
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
