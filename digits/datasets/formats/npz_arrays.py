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
from digits.datasets.formats.chunks import RawChunk, RowNames, rows_at_once
from digits.datasets.sources.archives import MAX_IMAGES
from digits.datasets.sources.npz import ENTRY, MALFORMED, MAX_ENTRIES, METHODS, read_header
from digits.spec import MAX_SIDE, ImageShape, ReadOptions
from digits.thresholds import SPLITS, DefectName, Split

NAMES = ("x_train", "y_train", "x_test", "y_test")
# A zip file's end-of-central-directory record is at most this far from the end of the file.
TAIL = 2**16 + 22


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
        if shape[3:] == (1,):
            shape = shape[:3]
        _check_shape(place, shape, image_shape)
        if not shape[0] or math.prod(label_shape) != shape[0]:
            check: DefectName = "count_mismatch" if shape[0] else "empty_file"
            num_labels = math.prod(label_shape)
            found = f"has {shape[0]:,} images, but y_{split} has {num_labels:,} labels"
            refuse(check, place, found, "as many of each, and at least one")
        for found_type, name in ((dtype, "x"), (label_type, "y")):
            if found_type.kind not in "biuf":
                refuse("value_type", f"{path}: {name}_{split}", f"has type {found_type}", "numbers")
        numbers = _take(labels, (shape[0],), label_type, f"y_{split}")
        step = rows_at_once(math.prod(shape[1:]) * dtype.itemsize)
        for start in range(0, shape[0], step):
            end = min(start + step, shape[0])
            values = _take(images, (end - start, *shape[1:]), dtype, f"x_{split}")
            yield RawChunk(values, numbers[start:end], named, RowNames(place, range(start, end)))
        for file, name in ((images, "x"), (labels, "y")):
            if file.read(1):
                raise ValueError(f"{name}_{split} has extra bytes at the end")


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
