"""A user's own images: safely reading a PNG, JPEG, WebP, BMP, TIFF or GIF file as gray."""

import io
import math
import sys
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from digits.datasets.formats.pictures import UNREADABLE
from digits.errors import DataError

Grey = npt.NDArray[np.uint8]

STANDARD_INPUT = "-"
PNG = b"\x89PNG\r\n\x1a\n"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
MAX_BYTES = 256 * 1024**2
PIECE = 64 * 1024
# Enough for a digit that fills a tenth of its image; larger images are reduced first.
MAX_SIDE = 256
# Bits per pixel that cameras, scanners and programs use, in files with room for more.
DEPTHS = (1, 2, 3, 4, 8, 10, 12, 14, 16)
# Chunks of a PNG that say nothing about its pixels, and may be damaged or huge.
UNUSED_CHUNKS = frozenset({b"iCCP", b"tEXt", b"zTXt", b"iTXt"})


class GreyImage(NamedTuple):
    """An image as gray uint8 (h, w), and how many images its file has."""

    grey: Grey
    num_frames: int


def read_grey(file: str) -> Grey:
    """Read an image file, or stdin for "-", as gray uint8 (h, w) of at most 256 pixels a side.

    Raises DataError if it is not an intact image of a known format, or is too large.
    """
    return read_image(file).grey


def read_image(file: str | Path) -> GreyImage:
    """Read the first image of a file, or of stdin for the text "-", of at most 256 pixels a side.

    Raises DataError if it is not an intact image of a known format, or is too large.
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


def decode_image(content: bytes, max_pixels: int | None = None) -> GreyImage:
    """Decode the first image of a file's content, of at most 256 pixels a side.

    Raises DataError if it is not an intact image of a known format, or has more than `max_pixels`.
    """
    if not content:
        raise DataError("is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow checks the size before decoding a pixel, but only warns up to twice its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            pixels = io.BytesIO(_without_unused_chunks(content))
            with Image.open(pixels, formats=FORMATS) as picture:
                if max_pixels is not None and picture.width * picture.height > max_pixels:
                    raise DataError(f"is larger than the limit of {max_pixels:,} pixels")
                num_frames = _num_frames(picture)
                grey = to_grey(_upright(picture))
    except UnidentifiedImageError as error:
        raise DataError("is not a PNG, JPEG, WebP, BMP, TIFF or GIF image") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"is larger than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UNREADABLE as error:
        raise DataError(f"is corrupted or truncated: {error}") from error
    return GreyImage(reduced(grey), num_frames)


def reduced(grey: Grey) -> Grey:
    """Shrink a gray image (h, w) to at most 256 pixels a side."""
    factor = math.ceil(max(grey.shape) / MAX_SIDE)
    return np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey


def to_grey(picture: Image.Image) -> Grey:
    """Return the luminance uint8 (h, w) of an image in any of Pillow's modes.

    Transparent pixels become a background that contrasts with the drawing: white behind dark ink,
    black behind light ink.
    """
    if picture.mode.startswith(("I", "F")):
        return _stretched(np.asarray(picture, np.float64))
    if not picture.has_transparency_data:
        return _with_full_range(np.asarray(picture.convert("L")))
    grey, alpha = picture.convert("RGBA").convert("LA").split()
    ink, opacity = np.asarray(grey, np.float32), np.asarray(alpha, np.float32) / 255
    drawn = opacity.sum()
    is_dark = drawn == 0 or (ink * opacity).sum() / drawn < 128
    ground = 255 if is_dark else 0
    return (ink * opacity + ground * (1 - opacity)).round().astype(np.uint8)


def _with_full_range(grey: Grey) -> Grey:
    """Scale pixels of fewer than 8 bits to 0..255."""
    highest = (1 << next(bits for bits in DEPTHS if grey.max(initial=0) < 1 << bits)) - 1
    full: Grey = grey if highest == 255 else grey * np.uint8(255 // highest)
    return full


def _stretched(values: npt.NDArray[np.float64]) -> Grey:
    """Scale pixels of more than 8 bits to 0..255, which Pillow would clip.

    Few use all of their range, and some only a small part far from both ends.
    """
    values = np.nan_to_num(values, posinf=0, neginf=0)
    low, high = values.min(), values.max()
    depth = next((bits for bits in DEPTHS if high < 1 << bits), 0)
    top = (1 << depth) - 1 if depth else high
    if low < 0 or not depth or high - low < top / 2:
        low_to_high: Grey = ((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
        return low_to_high
    scaled: Grey = (values * (255 / top)).round().astype(np.uint8)
    return scaled


def _read(stream: BinaryIO) -> GreyImage:
    content = bytearray()
    # Read in pieces: requesting the limit at once would allocate that much for each small file.
    while piece := stream.read(PIECE):
        content += piece
        if len(content) > MAX_BYTES:
            raise DataError(f"is larger than the limit of {MAX_BYTES:,} bytes")
    return decode_image(bytes(content))


def _upright(picture: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data says; unreadable EXIF data says nothing."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except (*UNREADABLE, KeyError, TypeError):
        return picture


def _num_frames(picture: Image.Image) -> int:
    # A phone's JPEG may have a second, small image, which is not another picture.
    if picture.format in {"JPEG", "MPO"}:
        return 1
    try:
        num_frames = int(getattr(picture, "n_frames", 1))
        picture.seek(0)
    except UNREADABLE:
        return 1
    return num_frames


def _without_unused_chunks(content: bytes) -> bytes:
    """Drop profiles and texts from a PNG, because Pillow refuses an image for a long text."""
    if not content.startswith(PNG):
        return content
    kept, start = [PNG], len(PNG)
    while start < len(content):
        length = int.from_bytes(content[start : start + 4])
        end = start + length + 12
        if content[start + 4 : start + 8] not in UNUSED_CHUNKS:
            kept.append(content[start:end])
        start = end
    return b"".join(kept)
