"""Recognizes which values stand for no ink and full ink, by the usual ranges of pixels."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.formats.chunks import RawChunk
from digits.datasets.formats.cleaning import room_for_rounding, to_pixels
from digits.datasets.formats.depths import REPEATED, Depths, are_repeated
from digits.errors import DataError
from digits.spec import PixelRange

MNIST_MEAN, MNIST_DEVIATION = 0.1307, 0.3081
"""Of MNIST's training images scaled to 0..1, as published with the usual examples."""


@dataclass(frozen=True)
class Convention:
    """A usual range of pixel values.

    It fits values that go from `low` or above to between `least` and `high`; if `starts` is given,
    the lowest must not be above it.
    """

    low: float
    high: float
    about: str
    least: float
    starts: float = math.inf
    only_whole: bool = False


def _standardized(mean: float, deviation: float, about: str) -> Convention:
    low, high = ((end - mean) / deviation for end in (0, 1))
    near = 0.002 * (high - low)
    # Six digits are what a spec shows.
    low, high = (float(f"{end:.6g}") for end in (low, high))
    return Convention(low, high, about, high - near, low + near)


def _bits(number: int) -> Convention:
    high = 2**number - 1
    # Within 2%, so that 1000 or 4000 is not taken for 10 or 12 bits.
    return Convention(0, high, f"{number} bits", 0.98 * high)


CONVENTIONS = (
    Convention(0, 1, "two levels", 1, only_whole=True),
    Convention(0, 1, "fractions", 0.9),
    Convention(0, 15, "4 bits", 15),
    Convention(0, 16, "counts of 4x4 blocks, as in scikit-learn's digits", 16),
    Convention(0, 100, "percent", 99.9),
    Convention(0, 255, "8 bits", 128, only_whole=True),
    Convention(0, 255, "8 bits", 230),
    *map(_bits, range(9, 17)),
    Convention(-1, 1, "fractions from -1 to 1", 0.9, -0.9),
    Convention(-0.5, 0.5, "fractions around 0", 0.45, -0.45),
    _standardized(MNIST_MEAN, MNIST_DEVIATION, "standardized with MNIST's mean and deviation"),
)

NUM_LEVELS = 256
NUM_LOOKED_AT = 200


@dataclass
class Extremes:
    """The lowest and highest of some values."""

    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, values: npt.NDArray[Any]) -> None:
        """Extend them to finite values."""
        if values.size:
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))


class SeenValues:
    """The pixel values of a dataset: their extremes, and whether all are whole numbers."""

    def __init__(self) -> None:
        self.are_whole = True
        self.levels: set[float] | None = set()
        """The different values of some images of each chunk; None if 8 bits cannot hold them."""
        self._bytes, self._values = Extremes(), Extremes()
        self._depths = Depths()

    def add(self, chunk: RawChunk) -> None:
        """Look at the values of a chunk."""
        values = chunk.values
        if chunk.are_pictures:
            self._depths.see(chunk)
            is_deep = values.itemsize > 1
            self._bytes.add(values[are_repeated(values)] // REPEATED if is_deep else values)
        elif values.dtype.kind == "f":
            values = values[np.isfinite(values)]
            self.are_whole &= bool((values == np.rint(values)).all())
        self._values.add(values)
        self._add_levels(chunk)

    def _add_levels(self, chunk: RawChunk) -> None:
        if self.levels is None:
            return
        some = chunk.values[:NUM_LOOKED_AT]
        some = some[np.isfinite(some)] if some.dtype.kind == "f" else some
        self.levels |= set(np.unique(some).astype(np.float64).tolist())
        if len(self.levels) > NUM_LEVELS:
            self.levels = None

    @property
    def extremes(self) -> Extremes:
        """Those of all values; raises DataError for pictures of different depths."""
        if self._depths.shallow and self._values.highest < _bits(16).least:
            self._depths.refuse_mixed()
        are_bytes = self._depths.deep is None and math.isfinite(self._bytes.lowest)
        return self._bytes if are_bytes else self._values


def recognized(seen: SeenValues) -> tuple[PixelRange, str]:
    """Return the range of pixel values and the words for it. Raises DataError if none fits."""
    lowest, highest = seen.extremes.lowest, seen.extremes.highest
    for one in CONVENTIONS:
        room = 0.0 if seen.are_whole else room_for_rounding((one.low, one.high))
        is_in = lowest >= one.low - room and highest <= one.high + room
        reaches = highest >= one.least and lowest <= one.starts
        if is_in and reaches and (seen.are_whole or not one.only_whole):
            return _without_loss(one, seen)
    low, high = f"{lowest:.6g}", f"{highest:.6g}"
    if lowest >= highest:
        raise DataError(f"all pixel values are {low}: the images are blank")
    raise DataError(
        f"pixel values {low} to {high}: no usual range (such as 0 to 1, -1 to 1, 0 to 255 or 0 to "
        f"1023); if {low} is no ink and {high} is full ink, add --pixel-range {low} {high}"
        + _hint(lowest, highest, seen.are_whole)
    )


def _without_loss(one: Convention, seen: SeenValues) -> tuple[PixelRange, str]:
    """Return the range of a convention, or up to the highest value if it would merge levels.

    So would 8 bits that were shifted by 4 to become 12: their highest value is not 4095 but 4080.
    """
    highest, levels = seen.extremes.highest, np.array(sorted(seen.levels or ()))
    high = float(f"{highest:.6g}")
    if high < one.high and (
        _are_bytes(levels, highest)
        or _num_pixels(levels, (one.low, one.high))
        < _num_pixels(levels, (one.low, high))
        == len(levels)
    ):
        return (one.low, high), f"{one.about}, up to {high:g}"
    return (one.low, one.high), one.about


def _are_bytes(levels: npt.NDArray[np.float64], highest: float) -> bool:
    """Whether the values are 8 bits, all times the same whole number."""
    if not len(levels) or (levels != np.rint(levels)).any():
        return False
    step = int(np.gcd.reduce(levels.astype(np.int64)))
    return step > 1 and highest == 255 * step


def _num_pixels(levels: npt.NDArray[np.float64], pixel_range: PixelRange) -> int:
    return len(np.unique(to_pixels(levels, pixel_range)))


def _hint(lowest: float, highest: float, are_whole: bool) -> str:
    if are_whole and lowest >= 0 and highest <= 255:
        return "; if they are 8-bit pixels without full ink, add --pixel-range 0 255"
    if are_whole and -128 <= lowest < 0 and highest <= 127:
        return (
            "; if they are unsigned bytes that were stored as signed ones, save them with "
            'x.view("uint8")'
        )
    if lowest < 0:
        return "; if each pixel has its own mean and deviation, save the images as they were before"
    return ""
