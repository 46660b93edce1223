"""A user's own images: finding the files, and safely reading any PNG or JPEG as gray."""

import io
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from digits.datasets.formats.pictures import UNREADABLE, scaled_to_8_bits
from digits.errors import DataError

Grey = npt.NDArray[np.uint8]

STANDARD_INPUT = "-"
FORMATS = ("PNG", "JPEG")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
MAX_BYTES = 256 * 1024**2
PIECE = 64 * 1024
# Enough for a digit that fills a tenth of its image; larger images are reduced first.
MAX_SIDE = 256


def find_files(arguments: Iterable[str]) -> Iterator[str]:
    """Yield each argument that is a file, and each PNG and JPEG below a folder, sorted by name.

    Hidden files in folders are skipped; links to folders are not followed.
    """
    for argument in arguments:
        if argument != STANDARD_INPUT and Path(argument).is_dir():
            yield from _below(argument)
        else:
            yield argument


def read_grey(file: str) -> Grey:
    """Read an image file, or stdin for "-", as gray uint8 (h, w) of at most 256 pixels a side.

    Raises DataError if it is not an intact PNG or JPEG, or is too large.
    """
    if file == STANDARD_INPUT:
        return _read(sys.stdin.buffer)
    path = Path(file)
    try:
        if not path.is_file():
            raise DataError("is not a file" if path.exists() else "does not exist")
        with path.open("rb") as stream:
            return _read(stream)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def to_grey(picture: Image.Image) -> Grey:
    """Return the luminance uint8 (h, w) of an image in any of Pillow's modes.

    Transparent pixels become a background that contrasts with the drawing: white behind dark ink,
    black behind light ink.
    """
    if picture.mode.startswith("I"):
        return scaled_to_8_bits(picture)
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
    # Read in pieces: requesting the limit at once would allocate that much for each small file.
    while piece := stream.read(PIECE):
        content += piece
        if len(content) > MAX_BYTES:
            raise DataError(f"is larger than the limit of {MAX_BYTES:,} bytes")
    if not content:
        raise DataError("is empty")
    return _decode(bytes(content))


def _decode(content: bytes) -> Grey:
    try:
        with warnings.catch_warnings():
            # Pillow checks the size before decoding a pixel, but only warns up to twice its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                grey = to_grey(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        raise DataError("is not a PNG or JPEG image") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"is larger than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UNREADABLE as error:
        raise DataError(f"is corrupted or truncated: {error}") from error
    factor = math.ceil(max(grey.shape) / MAX_SIDE)
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))
