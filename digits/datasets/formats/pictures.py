"""PNG images of a dataset, decoded only if their size is right, to stop decompression bombs."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from digits.datasets.defects import Defects
from digits.spec import MAX_SIDE, MIN_SIDE, ImageShape
from digits.thresholds import DefectName

PNG = b"\x89PNG\r\n\x1a\n"
# Up to its width and height.
HEADER_BYTES = 24
# Size of the largest image without compression, in 16-bit RGBA, plus room for text.
MAX_BYTES = MAX_SIDE * MAX_SIDE * 8 + 2**16
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError)
"""Exceptions that Pillow raises for a corrupted image."""


def decode_png(
    content: bytes, place: str, image_shape: ImageShape | None, defects: Defects
) -> npt.NDArray[np.uint8] | None:
    """Return a gray image uint8 (H, W), or None after recording its defect.

    Without `image_shape`, any size that a dataset may have is accepted.
    """
    if not content:
        defects.add("empty_file", [place], "is empty", "a PNG image")
    elif not content.startswith(PNG):
        defects.add("file_type", [place], f"starts with {content[:8]!r}", "a PNG image")
    elif len(content) > MAX_BYTES:
        found = f"has more than {MAX_BYTES:,} bytes"
        defects.add("unbounded", [place], found, f"at most {MAX_SIDE} x {MAX_SIDE} pixels")
    elif _is_right(content, place, image_shape, defects):
        return _decode(content, place, defects)
    return None


def _decode(content: bytes, place: str, defects: Defects) -> npt.NDArray[np.uint8] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
                return _gray(picture) if _is_gray(picture, place, defects) else None
    except UnidentifiedImageError:
        problem = "is not a valid PNG image"
    except (*UNREADABLE, Warning) as error:
        problem = f"is corrupted or truncated: {error}"
    defects.add("corrupt_file", [place], problem, "an intact PNG image")
    return None


def _is_right(content: bytes, place: str, image_shape: ImageShape | None, defects: Defects) -> bool:
    """Whether the size in the header is right, so that the image may be decoded."""
    if len(content) < HEADER_BYTES:
        defects.add("corrupt_file", [place], "is truncated", "an intact PNG image")
        return False
    width, height = struct.unpack(">II", content[HEADER_BYTES - 8 : HEADER_BYTES])
    sides = range(MIN_SIDE, MAX_SIDE + 1)
    if (height, width) == image_shape or (not image_shape and height in sides and width in sides):
        return True
    largest = image_shape or (MAX_SIDE, MAX_SIDE)
    expected = f"{largest[0]} x {largest[1]}{'' if image_shape else ' at most'}"
    check: DefectName = "unbounded" if height * width > 1024 * 1024 else "image_size"
    defects.add(check, [place], f"is an image of {height:,} x {width:,} pixels", expected)
    return False


def _is_gray(picture: Any, place: str, defects: Defects) -> bool:
    if picture.mode in {"1", "L"} or picture.mode.startswith("I"):
        return True
    pixels = np.asarray(picture.convert("RGBA"))
    is_gray = (pixels[..., :3] == pixels[..., :1]).all() and (pixels[..., 3] == 255).all()
    if not is_gray:
        found = f"has color or transparency ({picture.mode})"
        defects.add("value_type", [place], found, "a gray image")
    return bool(is_gray)


def _gray(picture: Any) -> npt.NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        return scaled_to_8_bits(picture)
    return np.asarray(picture.convert("L"))


def scaled_to_8_bits(picture: Any) -> npt.NDArray[np.uint8]:
    """Scale an image with 16 bits per pixel to uint8 (H, W), which Pillow would clip."""
    return (np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8)
