"""Surveys files of labeled images: reads them all once to find out what they contain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import RawChunk
from digits.datasets.formats.label_text import as_number, as_text
from digits.datasets.formats.readers import check_kinds, read_raw
from digits.errors import DataError
from digits.intake.proposals.image_widths import check_width
from digits.intake.proposals.pixel_ranges import SeenValues, recognized
from digits.spec import MAX_SIDE, MIN_SIDE, ImageShape, PixelRange, ReadOptions

MAX_CLASSES = 1000
# Rows without a label are a defect, not a class.
NO_LABELS = frozenset({"", "nan"})


@dataclass
class Survey:
    """What the files contain: image size, pixel values, labels, and any test split."""

    read_options: ReadOptions
    image_shape: ImageShape
    is_square_assumed: bool
    values: SeenValues = field(default_factory=SeenValues)
    given_range: PixelRange | None = None
    labels: set[str] = field(default_factory=set)
    is_split: bool = False
    num_images: int = 0
    notes: tuple[str, ...] = ()

    @property
    def lowest(self) -> float:
        """The lowest pixel value."""
        return self.values.extremes.lowest

    @property
    def highest(self) -> float:
        """The highest pixel value."""
        return self.values.extremes.highest

    @property
    def pixel_range(self) -> PixelRange:
        """The values of no ink and of full ink: the given ones, or those of a usual range."""
        return self.given_range or recognized(self.values)[0]

    @property
    def pixel_convention(self) -> str:
        """A few words for the range."""
        return "as given" if self.given_range else recognized(self.values)[1]

    @property
    def numbers(self) -> list[int]:
        """The labels in order if all of them are numbers; otherwise empty."""
        numbers = [number for text in self.labels if (number := as_number(text)) is not None]
        return sorted(set(numbers)) if len(numbers) == len(self.labels) else []

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in order: numbers by value, other labels alphabetically.

        Different spellings of one number are one class.
        """
        if self.numbers:
            return tuple(map(str, self.numbers))
        spellings: dict[int, list[str]] = {}
        words = []
        for text in sorted(self.labels):
            number = as_number(text)
            if number is None:
                words.append(text)
            else:
                spellings.setdefault(number, []).append(text)
        numbers = [
            texts[0] if len(texts) == 1 else str(number) for number, texts in spellings.items()
        ]
        return tuple(sorted(words + numbers))

    def add(self, batch: RawChunk) -> None:
        """Add a chunk of rows to the survey."""
        self.values.add(batch)
        self.labels |= {as_text(label) for label in np.unique(batch.labels).tolist()} - NO_LABELS
        if len(self.labels) > MAX_CLASSES:
            raise DataError(
                f"{batch.names[0]}: more than {MAX_CLASSES:,} different labels up to here, such as "
                f"{', '.join(map(repr, islice(sorted(self.labels), 3)))} (expected one per class); "
                "set the column of the labels with --label-column"
            )
        self.is_split |= batch.split == "test"
        self.num_images += len(batch.labels)


def survey(
    files: Sequence[Path],
    read_options: ReadOptions,
    image_shape: ImageShape | None,
    pixel_range: PixelRange | None = None,
) -> Survey:
    """Read the files once. Raises DataError if they are not labeled images of one size.

    `image_shape` is that of upright images, `pixel_range` the given one, if they are known.
    """
    if read_options.file_layout == "csv" and read_options.label_column is None:
        from digits.datasets.formats.tables.csv_columns import label_place

        check_kinds(files, read_options.file_layout)
        label_column = label_place(files)
        read_options = read_options.model_copy(update={"label_column": label_column})
    stored = read_options.stored(image_shape) if image_shape else None
    defects = Defects(read_options.severity)
    seen: Survey | None = None
    for chunk in read_raw(files, stored, read_options, defects):
        if seen is None:
            shape, is_assumed = _shape_of(chunk, stored)
            upright = read_options.stored(shape)
            seen = Survey(read_options, upright, is_assumed, given_range=pixel_range)
        seen.add(chunk)
    defects.refuse_errors()
    if seen is None or not seen.num_images:
        raise DataError(f"{files[0]}: no images found")
    if len(seen.class_names) < 2:
        raise DataError(
            f"{files[0]}: only one class, {', '.join(seen.class_names)} (expected two or more)"
        )
    seen.notes = defects.notes
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
    is_assumed = not given and batch.values.ndim == 2
    if is_assumed:
        check_width(batch, width)
    return (height, width), is_assumed
