"""Pairs of IDX files, images and labels, read in chunks."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import Defects, refuse
from digits.datasets.files.file_layouts import said_splits
from digits.datasets.files.file_names import Kind, SaidSplit, in_effect, parse_name
from digits.datasets.formats.chunks import MAX_ROWS, RawChunk, RowNames
from digits.datasets.sources.archives import MAX_IMAGES
from digits.datasets.sources.idx import (
    NUM_LABEL_COLUMNS,
    describe_shape,
    has_integers,
    read_shape,
    read_start,
)
from digits.datasets.sources.raw_files import is_packed, limit_of, open_plain
from digits.spec import MAX_SIDE, ImageShape, ReadOptions
from digits.thresholds import SPLITS, Split

PARTNERS: Mapping[Kind, Kind] = {"images": "labels", "labels": "images"}
LARGEST: ImageShape = (MAX_SIDE, MAX_SIDE)


def read_idx(
    files: Sequence[Path], image_shape: ImageShape | None, *__: ReadOptions | Defects
) -> Iterator[RawChunk]:
    """Yield the images and labels of pairs of IDX files; names that differ otherwise make a pair.

    Files may be compressed as .gz. Raises DefectError naming the file and the problem, DataError
    for anything but a regular file.
    """
    pairs = _pairs(files)
    splits = in_effect({key: said for key, (said, _) in pairs.items()})
    for split in (*SPLITS, None):
        for key, (_, pair) in pairs.items():
            if splits[key] == split:
                yield from _read_pair(pair["images"], pair["labels"], image_shape, split)


def _pairs(files: Sequence[Path]) -> dict[str, tuple[SaidSplit | None, dict[Kind, Path]]]:
    """Group files by set and split. Raises DefectError unless each group is a pair."""
    pairs: dict[str, tuple[SaidSplit | None, dict[Kind, Path]]] = {}
    for file, said in said_splits(files).items():
        named = parse_name(file.name)
        if named.kind is None:
            refuse("file_type", str(file), "has neither images nor labels in its name", "one")
        pair = pairs.setdefault(f"{named.stem} {said}", (said, {}))[1]
        if named.kind in pair:
            found = f"has {named.kind}, but so has {pair[named.kind]}"
            refuse("file_type", str(file), found, "one pair of files for each name")
        pair[named.kind] = file
    for _said, pair in pairs.values():
        for missing, other in PARTNERS.items():
            if missing not in pair:
                found = f"has no {missing} file"
                refuse("count_mismatch", str(pair[other]), found, "a pair of files")
    return pairs


def _read_pair(
    image_file: Path, label_file: Path, image_shape: ImageShape | None, split: Split | None
) -> Iterator[RawChunk]:
    with (
        _opened(image_file, image_shape) as (images, image_sizes),
        _opened(label_file, image_shape) as (labels, label_sizes),
    ):
        _check(image_file, image_sizes, image_shape)
        _check_pair(image_file, image_sizes, label_file, label_sizes)
        numbers = _labels(labels, label_sizes, label_file)
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
    path: Path, image_shape: ImageShape | None
) -> Iterator[tuple[BinaryIO, tuple[int, ...]]]:
    with open_plain(path, limit_of(path, image_shape or LARGEST)) as file:
        # The uncompressed size of a .gz is unknown until it is read.
        size = None if is_packed(path) else path.stat().st_size
        start, is_labels = read_start(file), has_integers(path.name)
        yield file, read_shape(start, size, str(path), has_integers=is_labels)


def _labels(file: BinaryIO, sizes: tuple[int, ...], path: Path) -> npt.NDArray[Any]:
    """Read labels; of QMNIST's eight columns, the first is the class."""
    if has_integers(path.name):
        content = _read(file, math.prod(sizes) * 4, path)
        return np.frombuffer(content, ">i4").reshape(sizes[0], -1)[:, 0].astype(np.int64)
    return np.frombuffer(_read(file, sizes[0], path), np.uint8)


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
    is_extended = has_integers(label_file.name) and labels[1:] == (NUM_LABEL_COLUMNS,)
    if len(labels) != 1 and not is_extended:
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
