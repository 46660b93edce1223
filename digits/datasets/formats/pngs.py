"""PNG pictures of a dataset: decoded only where their size is right, so that none is a bomb."""

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
# What a picture of the largest size takes unpacked, in colour and with 16 bits, and room for text.
MAX_BYTES = MAX_SIDE * MAX_SIDE * 8 + 2**16
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError)


def decode_png(
    content: bytes, place: str, image_shape: ImageShape | None, defects: Defects
) -> npt.NDArray[np.uint8] | None:
    """A grey picture uint8 (H, W), or None where it is noted what is wrong with it.

    Without `image_shape` any size that a dataset may have is right.
    """
    if not content:
        defects.add("empty_file", [place], "is empty", "a PNG picture")
    elif not content.startswith(PNG):
        defects.add("file_type", [place], f"begins with {content[:8]!r}", "a PNG picture")
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
                return _grey(picture) if _is_grey(picture, place, defects) else None
    except UnidentifiedImageError:
        problem = "is no whole PNG picture"
    except (*UNREADABLE, Warning) as error:
        problem = f"is damaged or was cut short: {error}"
    defects.add("corrupt_file", [place], problem, "a whole picture")
    return None


def _is_right(content: bytes, place: str, image_shape: ImageShape | None, defects: Defects) -> bool:
    """Whether the picture's header says the right size: only then it is decoded."""
    if len(content) < HEADER_BYTES:
        defects.add("corrupt_file", [place], "was cut short", "a whole PNG picture")
        return False
    width, height = struct.unpack(">II", content[HEADER_BYTES - 8 : HEADER_BYTES])
    sides = range(MIN_SIDE, MAX_SIDE + 1)
    if (height, width) == image_shape or (not image_shape and height in sides and width in sides):
        return True
    largest = image_shape or (MAX_SIDE, MAX_SIDE)
    expected = f"{largest[0]} x {largest[1]}{'' if image_shape else ' at most'}"
    check: DefectName = "unbounded" if height * width > 1024 * 1024 else "image_size"
    defects.add(check, [place], f"is a picture of {height:,} x {width:,} pixels", expected)
    return False


def _is_grey(picture: Any, place: str, defects: Defects) -> bool:
    if picture.mode in {"1", "L"} or picture.mode.startswith("I"):
        return True
    pixels = np.asarray(picture.convert("RGBA"))
    is_grey = (pixels[..., :3] == pixels[..., :1]).all() and (pixels[..., 3] == 255).all()
    if not is_grey:
        found = f"is in colour or transparent ({picture.mode})"
        defects.add("value_type", [place], found, "a grey picture")
    return bool(is_grey)


def _grey(picture: Any) -> npt.NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        # 16 bits a pixel, which Pillow would clip instead of scaling.
        return (np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8)
    return np.asarray(picture.convert("L"))
