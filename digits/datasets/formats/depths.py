"""Pictures of 8 and of 16 bits per pixel, and how both become values of one range.

A 16-bit file may use 10 or 12 of its bits, which no header says, so its values are taken as they
are. A file made from 8 bits by repeating each byte has only multiples of 257, and is 8-bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import refuse
from digits.datasets.formats.chunks import RawChunk
from digits.spec import PixelRange

REPEATED = 257
"""A byte times this is the byte twice: 0..255 becomes 0..65535."""

Values = npt.NDArray[Any]


@dataclass
class Depths:
    """Where the first picture of 8 bits, and of 16 used bits, was seen."""

    shallow: str | None = None
    deep: str | None = None

    def see(self, chunk: RawChunk) -> None:
        """Look at a chunk of pictures; others do not matter."""
        if not chunk.are_pictures:
            return
        if chunk.values.itemsize == 1:
            self.shallow = self.shallow or chunk.names[0]
        elif self.deep is None and (rows := np.flatnonzero(~are_repeated(chunk.values))).size:
            self.deep = chunk.names[int(rows[0])]

    def refuse_mixed(self) -> None:
        """Raise DefectError if both were seen."""
        if self.shallow is not None and self.deep is not None:
            refuse(
                "value_type",
                self.deep,
                f"has 16 bits per pixel, but {self.shallow} has 8",
                "one depth: save all of them as 8-bit PNG, with the same scale",
            )


def by_depth(pictures: Sequence[Values]) -> Iterator[tuple[Values, list[int]]]:
    """Yield pictures of 8 and of 16 bits as one array each, with their indices.

    16-bit ones that were made from 8 bits are 8-bit again, if they are among such.
    """
    is_deep = [picture.itemsize > 1 for picture in pictures]
    if any(is_deep) and not all(is_deep):
        pictures = [
            (picture // REPEATED).astype(np.uint8)
            if deep and not (picture % REPEATED).any()
            else picture
            for picture, deep in zip(pictures, is_deep, strict=True)
        ]
    for size in (1, 2):
        rows = [row for row, picture in enumerate(pictures) if picture.itemsize == size]
        if rows:
            yield np.stack([pictures[row] for row in rows]), rows


def are_repeated(values: Values) -> npt.NDArray[np.bool_]:
    """Return which 16-bit images were made from 8 bits."""
    return np.asarray((values % REPEATED == 0).all(axis=(1, 2)))


def at_depth(chunk: RawChunk, pixel_range: PixelRange) -> Values:
    """Return the values of a chunk of pictures at the depth of the range.

    Raises DefectError for 8-bit pictures in a dataset of more bits.
    """
    values, high = chunk.values, pixel_range[1]
    if not chunk.are_pictures:
        return values
    if values.itemsize > 1:
        repeated = are_repeated(values) & (high <= 255)
        return np.where(repeated[:, None, None], values // REPEATED, values)
    if high == REPEATED * 255:
        return values.astype(np.uint16) * REPEATED
    if high > 255:
        found = "has 8 bits per pixel"
        refuse("value_type", chunk.names[0], found, f"16, with values up to {high:g}")
    return values
