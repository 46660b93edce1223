"""Arrays of images and labels in .npz or .npy files, read in chunks to bound memory.

numpy's loader is avoided because it allocates whatever a header claims.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import DefectError, Defects, refuse
from digits.datasets.files.file_names import in_effect
from digits.datasets.formats.channels import to_gray, without_channels
from digits.datasets.formats.chunks import RawChunk, RowNames, rows_at_once
from digits.datasets.formats.npz_members import NAMES, Pair, find_pairs
from digits.datasets.sources.archives import MAX_IMAGES
from digits.datasets.sources.npz import MALFORMED, read_header
from digits.spec import MAX_SIDE, ImageShape, ReadOptions
from digits.thresholds import SPLITS, DefectName, Split

# More columns of one-hot labels are no classes of a dataset.
MAX_CLASSES = 1000


def read_npz_arrays(
    files: Sequence[Path], image_shape: ImageShape | None, read_options: ReadOptions, __: Defects
) -> Iterator[RawChunk]:
    """Yield the images and labels of .npz files, or of pairs of .npy files.

    Raises DefectError naming the file and the problem.
    """
    path = files[0]
    try:
        pairs = find_pairs(files)
        splits = in_effect({pair: pair.said for pair in pairs})
        for split in (*SPLITS, None):
            for pair in pairs:
                path = pair.images.path
                is_left_out = pair.said == "validation" and read_options.validation != "train"
                if splits[pair] == split and not is_left_out:
                    yield from _read_pair(pair, split, image_shape)
    except DefectError:
        raise
    except MALFORMED as error:
        raise DefectError(
            "corrupt_file", f"{path} is not a valid .npz with {', '.join(NAMES)}: {error}"
        ) from error


def _read_pair(
    pair: Pair, split: Split | None, image_shape: ImageShape | None
) -> Iterator[RawChunk]:
    place, x, y = pair.images.place, pair.images.name, pair.labels.name
    with pair.images.opened() as images, pair.labels.opened() as labels:
        shape, dtype = read_header(images, x)
        label_shape, label_type = read_header(labels, y)
        _check_shape(place, (*shape[:1], *without_channels(shape[1:])), image_shape)
        _check_labels(place, shape[0], label_shape, y)
        for found_type, array, kinds in (
            (dtype, pair.images, "biuf"),
            (label_type, pair.labels, "biufUS"),
        ):
            if found_type.kind not in kinds:
                found = f"has type {found_type}"
                expected = (
                    f"numbers{' or text' * (array is pair.labels)}; convert it with .astype(int) "
                    "or (str)"
                )
                refuse("value_type", array.place, found, expected)
        numbers = _numbers(_take(labels, label_shape, label_type, y), pair.labels.place)
        step = rows_at_once(math.prod(shape[1:]) * dtype.itemsize)
        for start in range(0, shape[0], step):
            end = min(start + step, shape[0])
            values = _take(images, (end - start, *shape[1:]), dtype, x)
            names = RowNames(place, range(start, end))
            yield RawChunk(to_gray(values, names), numbers[start:end], split, names)
        for file, name in ((images, x), (labels, y)):
            if file.read(1):
                raise ValueError(f"{name} has extra bytes at the end")


def _check_labels(place: str, num_images: int, shape: tuple[int, ...], name: str) -> None:
    """Labels may be (N,), (N, 1), or one-hot (N, classes)."""
    is_one_hot = len(shape) == 2 and 1 < shape[1] <= MAX_CLASSES
    num_labels = shape[0] if is_one_hot and shape[0] == num_images else math.prod(shape)
    if not num_images or num_labels != num_images:
        check: DefectName = "count_mismatch" if num_images else "empty_file"
        found = f"has {num_images:,} images, but {name} has {num_labels:,} labels"
        refuse(check, place, found, "as many of each, and at least one")


def _numbers(labels: npt.NDArray[Any], place: str) -> npt.NDArray[Any]:
    """Return labels (N,), also of one-hot ones."""
    if labels.size == len(labels):
        return labels.reshape(-1)
    is_one_hot = labels.dtype.kind in "biuf" and (
        ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    )
    if not is_one_hot:
        found = f"has {labels.shape[1]:,} labels for each image, which are not one-hot"
        refuse("value_type", place, found, "one label for each image; keep one column: y[:, 0]")
    return np.asarray(labels.argmax(axis=1))


def _check_shape(place: str, shape: tuple[int, ...], image_shape: ImageShape | None) -> None:
    """Reject anything but images of the right size before reading any."""
    largest = MAX_SIDE * MAX_SIDE
    sizes = {math.prod(image_shape)} if image_shape else range(1, largest + 1)
    if len(shape) not in {2, 3} or math.prod(shape[1:]) not in sizes:
        height, width = image_shape or (MAX_SIDE, MAX_SIDE)
        expected = f"N x {height} x {width}{'' if image_shape else ' at most'}"
        found = " x ".join(f"{size:,}" for size in shape)
        refuse("image_size", place, f"has {found or 'no'} values", expected)
    if shape[0] > MAX_IMAGES:
        refuse("unbounded", place, f"has {shape[0]:,} images", f"at most {MAX_IMAGES:,}")


def _take(
    file: IO[bytes], shape: tuple[int, ...], dtype: "np.dtype[Any]", name: str
) -> npt.NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"{name} is truncated")
    return np.frombuffer(content, dtype).reshape(shape)
