"""Pairs of IDX files, images and labels, read in chunks."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from digits.datasets.defects import Defects, refuse
from digits.datasets.formats.chunks import MAX_ROWS, RawChunk, RowNames
from digits.datasets.sources.archives import MAX_IMAGES, size_limit
from digits.datasets.sources.idx import describe_shape, read_shape, read_start
from digits.datasets.sources.raw_files import is_packed, open_plain, role_of
from digits.spec import MAX_SIDE, ROLES, ImageShape, ReadOptions, Role
from digits.thresholds import SPLITS, Split

LARGEST: ImageShape = (MAX_SIDE, MAX_SIDE)


def read_idx(
    files: Sequence[Path], image_shape: ImageShape | None, _: ReadOptions, __: Defects
) -> Iterator[RawChunk]:
    """Yield the images and labels of one pair of files, or of a train and a test pair.

    Files may be compressed as .gz. Raises DefectError naming the file and the problem, DataError
    for anything but a regular file.
    """
    roles = {role: file for file in files if (role := role_of(file.name))}
    for split in SPLITS:
        images, labels = (roles.get(role) for role in ROLES if role.startswith(split))
        if images and labels:
            yield from _read_pair(images, labels, image_shape, roles)
        elif images or labels:
            kind = "labels" if images else "images"
            refuse(
                "count_mismatch", str(images or labels), f"has no {kind} file", "a pair of files"
            )


def _read_pair(
    image_file: Path, label_file: Path, image_shape: ImageShape | None, roles: Mapping[Role, Path]
) -> Iterator[RawChunk]:
    split: Split | None = None
    if any(role.startswith("test") for role in roles):
        split = "test" if image_file == roles.get("test-images") else "train"
    with (
        _opened(image_file, image_shape, "train-images") as (images, image_sizes),
        _opened(label_file, image_shape, "train-labels") as (labels, label_sizes),
    ):
        _check(image_file, image_sizes, image_shape)
        _check_pair(image_file, image_sizes, label_file, label_sizes)
        numbers = np.frombuffer(_read(labels, label_sizes[0], label_file), np.uint8)
        _end(labels, label_file)
        num_images, height, width = image_sizes
        for start in range(0, num_images, MAX_ROWS):
            end = min(start + MAX_ROWS, num_images)
            pixels = _read(images, (end - start) * height * width, image_file)
            values = np.frombuffer(pixels, np.uint8).reshape(-1, height, width)
            names = RowNames(str(image_file), range(start, end))
            yield RawChunk(values, numbers[start:end], split, names)
        _end(images, image_file)


@contextlib.contextmanager
def _opened(
    path: Path, image_shape: ImageShape | None, role: Role
) -> Iterator[tuple[BinaryIO, tuple[int, ...]]]:
    with open_plain(path, size_limit(image_shape or LARGEST, role)) as file:
        # The uncompressed size of a .gz is unknown until it is read.
        size = None if is_packed(path) else path.stat().st_size
        yield file, read_shape(read_start(file), size, str(path))


def _check(path: Path, found: tuple[int, ...], image_shape: ImageShape | None) -> None:
    """Reject anything but images of the right size before reading any."""
    is_any = image_shape is None and len(found) == 3 and max(found[1:]) <= MAX_SIDE
    if not is_any and found[1:] != image_shape:
        height, width = image_shape or LARGEST
        expected = f"images, N x {height} x {width}" + ("" if image_shape else " at most")
        if len(found) == 1:
            expected += "; these look like labels: are the two files swapped?"
        refuse("image_size", str(path), f"has {describe_shape(found)} values", expected)


def _check_pair(
    image_file: Path, images: tuple[int, ...], label_file: Path, labels: tuple[int, ...]
) -> None:
    if len(labels) != 1:
        expected = (
            f"labels, one for each of {images[0]:,} images; these look like images: are the two "
            "files swapped?"
        )
        refuse("value_type", str(label_file), f"has {describe_shape(labels)} values", expected)
    if images[0] != labels[0]:
        refuse(
            "count_mismatch",
            str(image_file),
            f"has {images[0]:,} images, but {label_file} has {labels[0]:,} labels",
            "as many of each: one of the files may belong to the other split",
        )
    if images[0] > MAX_IMAGES:
        refuse("unbounded", str(image_file), f"has {images[0]:,} images", f"at most {MAX_IMAGES:,}")


def _read(file: BinaryIO, size: int, path: Path) -> bytes:
    content = file.read(size)
    if len(content) < size:
        refuse("corrupt_file", str(path), "is truncated", f"{size - len(content):,} more bytes")
    return content


def _end(file: BinaryIO, path: Path) -> None:
    if file.read(1):
        refuse("corrupt_file", str(path), "has extra bytes at the end", "the size in its header")
