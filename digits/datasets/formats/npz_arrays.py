"""An .npz of images and labels with Keras's names, read in chunks to bound memory.

numpy's loader is avoided because it allocates whatever a header claims.
"""

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import DefectError, Defects, refuse
from digits.datasets.formats.channels import to_gray, without_channels
from digits.datasets.formats.chunks import RawChunk, RowNames, rows_at_once
from digits.datasets.sources.archives import MAX_IMAGES
from digits.datasets.sources.npz import ENTRY, MALFORMED, MAX_ENTRIES, METHODS, read_header
from digits.spec import MAX_SIDE, ImageShape, ReadOptions
from digits.thresholds import SPLITS, DefectName, Split

NAMES = ("x_train", "y_train", "x_test", "y_test")
# A zip file's end-of-central-directory record is at most this far from the end of the file.
TAIL = 2**16 + 22
# More columns of one-hot labels are no classes of a dataset.
MAX_CLASSES = 1000


def read_npz_arrays(
    files: Sequence[Path], image_shape: ImageShape | None, _: ReadOptions, __: Defects
) -> Iterator[RawChunk]:
    """Yield the images and labels of one .npz: x_train, y_train and an optional test split.

    Raises DefectError naming the file and the problem.
    """
    if len(files) != 1:
        refuse("file_type", str(files[1]), "is a second .npz file", "exactly one")
    (path,) = files
    try:
        _check_contents(path)
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy") for name in archive.namelist()}
            _check_names(path, members)
            splits = [split for split in SPLITS if f"x_{split}" in members]
            for split in splits:
                named = split if len(splits) > 1 else None
                yield from _read_split(path, archive, split, named, image_shape)
    except DefectError:
        raise
    except MALFORMED as error:
        raise DefectError(
            "corrupt_file", f"{path} is not a valid .npz with {', '.join(NAMES)}: {error}"
        ) from error


def _check_contents(path: Path) -> None:
    """Reject an archive with too many entries: zipfile creates an object for each."""
    size = path.stat().st_size
    if not size:
        refuse("empty_file", str(path), "is empty", f"an .npz with {', '.join(NAMES)}")
    with path.open("rb") as file:
        file.seek(max(0, size - TAIL))
        end = file.read()
        at = end.rfind(b"PK\x05\x06")
        if at < 0 or len(end) < at + 22:
            raise zipfile.BadZipFile("File is not a zip file or is truncated")
        length = int.from_bytes(end[at + 12 : at + 16], "little")
        if length > MAX_ENTRIES * 1024 or end.count(ENTRY) > MAX_ENTRIES:
            refuse("unbounded", str(path), f"lists more than {MAX_ENTRIES} files", f"{len(NAMES)}")


def _check_names(path: Path, members: set[str]) -> None:
    missing = [name for name in NAMES[:2] if name not in members]
    if len(members & set(NAMES[2:])) == 1:
        missing += [name for name in NAMES[2:] if name not in members]
    if missing:
        check: DefectName = "label_missing" if missing[0].startswith("y") else "corrupt_file"
        found = f"has {', '.join(sorted(members)[:8]) or 'no arrays'}, but no {missing[0]}"
        refuse(check, str(path), found, f"{', '.join(NAMES[:2])} and optionally a test split")


def _read_split(
    path: Path,
    archive: zipfile.ZipFile,
    split: Split,
    named: Split | None,
    image_shape: ImageShape | None,
) -> Iterator[RawChunk]:
    place = f"{path}: x_{split}"
    with (
        _opened(archive, f"x_{split}") as images,
        _opened(archive, f"y_{split}") as labels,
    ):
        shape, dtype = read_header(images, f"x_{split}")
        label_shape, label_type = read_header(labels, f"y_{split}")
        _check_shape(place, (*shape[:1], *without_channels(shape[1:])), image_shape)
        _check_labels(place, shape[0], label_shape, f"y_{split}")
        for found_type, name, kinds in ((dtype, "x", "biuf"), (label_type, "y", "biufUS")):
            if found_type.kind not in kinds:
                found = f"has type {found_type}"
                expected = (
                    f"numbers{' or text' * (name == 'y')}; convert it with .astype(int) or (str)"
                )
                refuse("value_type", f"{path}: {name}_{split}", found, expected)
        numbers = _numbers(
            _take(labels, label_shape, label_type, f"y_{split}"), f"{path}: y_{split}"
        )
        step = rows_at_once(math.prod(shape[1:]) * dtype.itemsize)
        for start in range(0, shape[0], step):
            end = min(start + step, shape[0])
            values = _take(images, (end - start, *shape[1:]), dtype, f"x_{split}")
            names = RowNames(place, range(start, end))
            yield RawChunk(to_gray(values, names), numbers[start:end], named, names)
        for file, name in ((images, "x"), (labels, "y")):
            if file.read(1):
                raise ValueError(f"{name}_{split} has extra bytes at the end")


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


def _opened(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    member = archive.getinfo(f"{name}.npy")
    # Only these are decompressed in pieces, never beyond the requested size.
    if member.compress_type not in METHODS:
        raise ValueError(f"{name} uses a compression method that numpy never writes")
    return archive.open(member)


def _take(
    file: IO[bytes], shape: tuple[int, ...], dtype: "np.dtype[Any]", name: str
) -> npt.NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"{name} is truncated")
    return np.frombuffer(content, dtype).reshape(shape)
