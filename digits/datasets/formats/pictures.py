"""Picture files of a dataset, decoded only if their size is right, to stop decompression bombs."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from digits.datasets.defects import Defects
from digits.datasets.sources.signatures import NUM_BYTES, recognize
from digits.spec import MAX_SIDE, MIN_SIDE, ImageShape
from digits.thresholds import DefectName

FORMATS = {"png": "PNG", "jpeg": "JPEG", "bmp": "BMP", "gif": "GIF"}
"""Pillow's names of the formats that are read, by the name of their signature."""
PICTURE = "a PNG image (JPEG, BMP and GIF are read too)"
# A PNG's header up to its depth and color type, which are the last two bytes.
HEADER_BYTES = 26
GRAY = 0
# Size of the largest image without compression, in 16-bit RGBA, plus room for text.
MAX_BYTES = MAX_SIDE * MAX_SIDE * 8 + 2**16
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError)
"""Exceptions that Pillow raises for a corrupted image."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def decode_picture(
    content: bytes, place: str, image_shape: ImageShape | None, defects: Defects
) -> Pixels | None:
    """Return a gray image (H, W), or None after recording its defect.

    It is uint8, or uint16 for 16 bits per pixel, with the values as stored. Without `image_shape`,
    any size that a dataset may have is accepted.
    """
    kind = recognize(content[:NUM_BYTES])
    if not content:
        defects.add("empty_file", [place], "is empty", "a PNG image")
    elif kind is None:
        defects.add("file_type", [place], f"starts with {content[:8]!r}", PICTURE)
    elif kind.name not in FORMATS:
        defects.add("file_type", [place], f"is {kind.about}", f"{PICTURE}; {kind.advice}")
    elif len(content) > MAX_BYTES:
        found = f"has more than {MAX_BYTES:,} bytes"
        defects.add("unbounded", [place], found, f"at most {MAX_SIDE} x {MAX_SIDE} pixels")
    elif kind.name != "png" or _has_right_header(content, place, image_shape, defects):
        if kind.name == "jpeg":
            defects.note("JPEG images are read as gray; JPEG loses detail, so prefer the originals")
        return _decode(content, FORMATS[kind.name], place, image_shape, defects)
    return None


def _decode(
    content: bytes,
    name: str,
    place: str,
    image_shape: ImageShape | None,
    defects: Defects,
) -> Pixels | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(content), formats=[name]) as picture:
                width, height = picture.size
                if not _is_right_size(height, width, place, image_shape, defects):
                    return None
                if getattr(picture, "n_frames", 1) > 1 and name == "GIF":
                    defects.add("value_type", [place], "is an animation", "a single image")
                    return None
                return _gray(picture) if _is_gray(picture, place, defects) else None
    except UnidentifiedImageError:
        problem = f"is not a valid {name} image"
    except (*UNREADABLE, Warning) as error:
        problem = f"is corrupted or truncated: {error}"
    defects.add("corrupt_file", [place], problem, f"an intact {name} image")
    return None


def _has_right_header(
    content: bytes, place: str, image_shape: ImageShape | None, defects: Defects
) -> bool:
    """Whether a PNG may be decoded, by its header."""
    if len(content) < HEADER_BYTES:
        defects.add("corrupt_file", [place], "is truncated", "an intact PNG image")
        return False
    width, height, depth, color = struct.unpack(">IIBB", content[16:HEADER_BYTES])
    if not _is_right_size(height, width, place, image_shape, defects):
        return False
    if depth == 16 and color != GRAY:
        # Pillow drops the lower byte of each of them.
        found = "has 16 bits per color"
        defects.add("value_type", [place], found, "16-bit gray, or 8 bits; convert it to gray")
        return False
    return True


def _is_right_size(
    height: int, width: int, place: str, image_shape: ImageShape | None, defects: Defects
) -> bool:
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


def _gray(picture: Any) -> Pixels:
    if picture.mode.startswith("I"):
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    return np.asarray(picture.convert("L"))
