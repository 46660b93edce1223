"""Tells whether images in flat rows have the width that was assumed for them.

Neighboring pixels of a picture are similar. With a wrong width, the pixel below another one is
somewhere else in the picture, and differs more.
"""

import numpy as np
import numpy.typing as npt

from digits.datasets.formats.chunks import RawChunk
from digits.errors import DataError
from digits.spec import MAX_SIDE, MIN_SIDE

MUCH_LESS = 0.7
"""Share of the difference of the assumed width below which another width is the likely one."""
NUM_LOOKED_AT = 500


def check_width(chunk: RawChunk, assumed: int) -> None:
    """Raise DataError if another width fits the images (n, pixels) of a chunk much better."""
    values = chunk.values[:NUM_LOOKED_AT].astype(np.float64)
    num_pixels = values.shape[1]
    widths = [
        width
        for width in range(MIN_SIDE, MAX_SIDE + 1)
        if num_pixels % width == 0 and MIN_SIDE <= num_pixels // width <= MAX_SIDE
    ]
    if assumed not in widths:
        return
    differences = {width: _difference(values, width) for width in widths}
    best = min(widths, key=lambda width: (differences[width], width))
    if differences[best] < MUCH_LESS * differences[assumed]:
        height = num_pixels // best
        raise DataError(
            f"{chunk.names[0]}: {num_pixels:,} pixels look like {height} x {best}, not "
            f"{num_pixels // assumed} x {assumed}; set the size with --image-shape {height} {best} "
            f"(or --image-shape {num_pixels // assumed} {assumed})"
        )


def _difference(values: npt.NDArray[np.float64], width: int) -> float:
    """Mean difference between each pixel and the one below it."""
    return float(np.nanmean(np.abs(values[:, width:] - values[:, :-width])))
