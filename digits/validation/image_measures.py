"""What is measured of each image: images uint8 (n, height, width) to one number each (n,)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.images import Images

BRIGHT = 127
"""A pixel above this counts as ink."""

Measured = npt.NDArray[Any]


def darkest_pixel(images: Images) -> Measured:
    """Return the darkest pixel of each image, 0..255."""
    return np.asarray(images.min(axis=(1, 2)))


def brightest_pixel(images: Images) -> Measured:
    """Return the brightest pixel of each image, 0..255."""
    return np.asarray(images.max(axis=(1, 2)))


def ink(images: Images) -> Measured:
    """Return the share of each image's pixels that count as ink, 0..1."""
    return np.asarray((images > BRIGHT).mean(axis=(1, 2), dtype=np.float64))
