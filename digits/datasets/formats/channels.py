"""Arrays of images with a channel axis, as gray images, and what raw bytes look like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import refuse

Values = npt.NDArray[Any]

MAX_CHANNELS = 4
"""Gray, with transparency, RGB, RGBA. The smallest image has more rows and columns."""

CONVERT = "gray images; convert them, for example with Pillow's Image.convert('L')"


def without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one image without its axis of channels, if it has one."""
    if len(shape) == 3 and shape[2] <= MAX_CHANNELS:
        return shape[:2]
    if len(shape) == 3 and shape[0] <= MAX_CHANNELS:
        return shape[1:]
    return shape


def to_gray(values: Values, names: Sequence[str]) -> Values:
    """Return images (n, H, W), given also (n, H, W, C) or (n, C, H, W) with equal channels.

    Raises DefectError, naming the first image, if the channels differ.
    """
    if values.ndim != 4 or without_channels(values.shape[1:]) == values.shape[1:]:
        return values
    channels = values if values.shape[3] <= MAX_CHANNELS else np.moveaxis(values, 1, 3)
    gray = channels[..., 0]
    colors = channels[..., : 3 if channels.shape[3] >= 3 else 1]
    is_opaque = channels.shape[3] in {1, 3} or (channels[..., -1] == channels[..., -1].max()).all()
    wrong = np.flatnonzero((colors != gray[..., None]).any(axis=(1, 2, 3)))
    if len(wrong) or not is_opaque:
        place = names[int(wrong[0]) if len(wrong) else 0]
        refuse("value_type", place, "has color or transparency", CONVERT)
    return gray


def described_bytes(rows: npt.NDArray[np.uint8]) -> tuple[str, int, str] | None:
    """Return what the bytes of each image (n, size) look like, if not like one byte per pixel.

    A word for it, the number of pixels, and Python code that makes bytes `b` an array.
    """
    rows = rows[rows.any(axis=1)]
    size = rows.shape[1]
    if not len(rows):
        return None
    for width, kinds in ((8, "if"), (4, "fi"), (2, "u")):
        for order, word in (("<", ""), (">", "big-endian ")):
            for kind in kinds:
                numbers = np.dtype(f"{order}{kind}{width}")
                if size % width == 0 and _are_numbers(rows, numbers):
                    code = f"np.frombuffer(b, '{numbers.str}')"
                    return f"{word}{numbers.newbyteorder('=').name} numbers", size // width, code
    for channels, word in ((4, "RGBA"), (3, "RGB")):
        if size % channels == 0 and _are_colors(rows.reshape(-1, channels)):
            code = f"np.frombuffer(b, 'u1').reshape(-1, {channels})[:, 0]"
            return f"{word} pixels", size // channels, code
    return None


def _are_numbers(rows: npt.NDArray[np.uint8], kind: "np.dtype[Any]") -> bool:
    if kind.kind == "f":
        numbers = np.abs(np.ascontiguousarray(rows).view(kind))
        if not np.isfinite(numbers).all():
            return False
        used = numbers[numbers > 0]
        return bool(used.size and used.min() > 1e-6 and used.max() < 1e6)
    planes = rows.reshape(-1, kind.itemsize)
    planes = planes if kind.str[0] == "<" else planes[:, ::-1]
    highest = planes.max(axis=0).astype(int)
    # The high bytes of small numbers are zero, or much less than the low ones.
    return bool(4 * highest[1] < highest[0] or kind.itemsize > 2) and not highest[2:].any()


def _are_colors(pixels: npt.NDArray[np.uint8]) -> bool:
    if pixels.shape[1] == 4:
        return bool((pixels[:, 3] == 255).all())
    return bool((pixels == pixels[:, :1]).all())
