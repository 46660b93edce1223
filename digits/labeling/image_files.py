"""A user's own pictures: finding them, and reading any PNG or JPEG as grey, safely."""

import io
import math
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from digits.errors import DataError

Grey = npt.NDArray[np.uint8]

STANDARD_INPUT = "-"
FORMATS = ("PNG", "JPEG")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
MAX_BYTES = 256 * 1024**2
PIECE = 64 * 1024
# Enough for a digit that fills a tenth of its picture; what is larger is made smaller first.
MAX_SIDE = 256
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError)


def find_files(arguments: Iterable[str]) -> Iterator[str]:
    """Each argument that is no folder, and each PNG and JPEG below those that are, sorted by name.

    Hidden files in folders are left out; links to folders are not followed.
    """
    for argument in arguments:
        if argument != STANDARD_INPUT and Path(argument).is_dir():
            yield from _below(argument)
        else:
            yield argument


def read_grey(file: str) -> Grey:
    """A picture file, or the standard input for "-", as grey uint8 (h, w) of at most 256 a side.

    Raises DataError for what is not a whole PNG or JPEG, or is too large.
    """
    if file == STANDARD_INPUT:
        return _read(sys.stdin.buffer)
    path = Path(file)
    try:
        if not path.is_file():
            raise DataError("is no file" if path.exists() else "is not there")
        with path.open("rb") as stream:
            return _read(stream)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def to_grey(picture: Image.Image) -> Grey:
    """Luminance uint8 (h, w) of a picture in any of Pillow's modes.

    What is transparent becomes a ground that differs from what is drawn on it: white below dark
    ink, black below light ink.
    """
    if picture.mode.startswith("I"):
        # 16 bits a pixel, which Pillow would clip instead of scaling.
        return (np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    grey, alpha = picture.convert("RGBA").convert("LA").split()
    ink, opacity = np.asarray(grey, np.float32), np.asarray(alpha, np.float32) / 255
    drawn = opacity.sum()
    is_dark = drawn == 0 or (ink * opacity).sum() / drawn < 128
    ground = 255 if is_dark else 0
    return (ink * opacity + ground * (1 - opacity)).round().astype(np.uint8)


def _below(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield str(Path(parent, name))


def _read(stream: BinaryIO) -> Grey:
    content = bytearray()
    # In pieces: to ask for the limit at once would take that much memory for each small file.
    while piece := stream.read(PIECE):
        content += piece
        if len(content) > MAX_BYTES:
            raise DataError(f"has more than {MAX_BYTES:,} bytes, which is all that is read")
    if not content:
        raise DataError("is empty")
    return _decode(bytes(content))


def _decode(content: bytes) -> Grey:
    try:
        with warnings.catch_warnings():
            # Pillow looks at the size before it decodes a pixel, but only warns up to twice it.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                grey = to_grey(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        raise DataError("is no PNG or JPEG picture") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels: not decoded") from error
    except UNREADABLE as error:
        raise DataError(f"is damaged or was cut short: {error}") from error
    factor = math.ceil(max(grey.shape) / MAX_SIDE)
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))
