"""The images in the columns of a Parquet file, whatever form they are stored in."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from digits.datasets.defects import Defects, refuse
from digits.datasets.formats.channels import described_bytes, to_gray
from digits.datasets.formats.chunks import RowNames
from digits.datasets.formats.depths import by_depth
from digits.datasets.formats.pictures import FORMATS, decode_picture
from digits.datasets.sources.signatures import NUM_BYTES, recognize
from digits.spec import ImageShape

Values = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]

MAX_DEPTH = 3
"""Of nested lists: rows, columns, channels."""
PIXELS = "a PNG image, a list of numbers, or one byte per pixel"
CELLS = {"npy": f"{PIXELS}; convert bytes b with np.load(io.BytesIO(b)).tolist()"}
EMBED = (
    'the content of the pictures; store {"bytes": open(path, "rb").read(), "path": path} in each '
    "row, or put the files into one folder per class"
)


@dataclass(frozen=True)
class Found:
    """Images (n, H, W), or (n, H * W) if no shape is stated, and the rows that they are in."""

    values: Values
    rows: Rows
    are_pictures: bool = False


class ImageReader:
    """Reads the images of one file; its first rows decide how the others are stored.

    `stated` is the shape that the file states. Raises DefectError if it is not the dataset's.
    """

    def __init__(
        self,
        image_shape: ImageShape | None,
        stated: ImageShape | None,
        file: str,
        defects: Defects,
    ) -> None:
        if image_shape and stated and image_shape != stated:
            found, expected = (f"{shape[0]} x {shape[1]}" for shape in (stated, image_shape))
            refuse("image_size", file, f"states images of {found} pixels", expected)
        self._shape, self._defects = image_shape or stated, defects
        self._has_pictures: bool | None = None
        self._size = math.prod(self._shape) if self._shape else None

    def read(self, columns: Sequence[pa.Array], names: RowNames) -> Iterator[Found]:
        """Yield the images of a chunk of rows; what is wrong with others is recorded."""
        if len(columns) > 1:
            numbers = [_numbers(column) for column in columns]
            yield Found(self._shaped(np.stack(numbers, axis=1)), np.arange(len(names)))
            return
        column = _storage(columns[0], names)
        good = np.flatnonzero(_is_given(column))
        self._note(names, good, "has no image", "an image in each row")
        column = column if len(good) == len(column) else column.take(pa.array(good))
        if not len(good):
            return
        if _is_bytes(column.type):
            yield from self._from_bytes(column.to_pylist(), good, names)
        else:
            yield self._from_lists(column, good, names)

    def _note(self, names: RowNames, good: Rows, found: str, expected: str) -> None:
        wrong = np.setdiff1d(np.arange(len(names)), good)
        if len(wrong):
            places = [names[row] for row in wrong.tolist()]
            self._defects.add("image_size", places, found, expected)

    def _shaped(self, flat: Values) -> Values:
        return flat.reshape(-1, *self._shape) if self._shape else flat

    def _from_bytes(
        self, contents: Sequence[bytes], rows: Rows, names: RowNames
    ) -> Iterator[Found]:
        if self._has_pictures is None:
            kind = recognize(contents[0][:NUM_BYTES])
            self._has_pictures = kind is not None and len(contents[0]) != self._size
            if self._has_pictures and kind is not None and kind.name not in FORMATS:
                found = f"has an image that is {kind.about}"
                refuse("value_type", names[0], found, CELLS.get(kind.name, PIXELS))
        if self._has_pictures:
            yield from self._pictures(contents, rows, names)
            return
        lengths = np.array([len(content) for content in contents])
        if self._size is None or not (lengths == self._size).any():
            self._refuse_numbers(contents, int(np.median(lengths)), names)
        self._size = self._size or int(np.median(lengths))
        is_right = lengths == self._size
        self._wrong_size(lengths, is_right, rows, names, "bytes")
        right = [content for content, is_one in zip(contents, is_right, strict=True) if is_one]
        flat = np.frombuffer(b"".join(right), np.uint8).reshape(-1, self._size)
        yield Found(self._shaped(flat), rows[is_right])

    def _refuse_numbers(self, contents: Sequence[bytes], size: int, names: RowNames) -> None:
        """Refuse bytes that are not one per pixel, rather than take them for pixels."""
        same = b"".join(content for content in contents if len(content) == size)
        if (
            not size
            or (seen := described_bytes(np.frombuffer(same, "u1").reshape(-1, size))) is None
        ):
            return
        word, num_pixels, code = seen
        refuse(
            "value_type",
            names[0],
            f"has {size:,} bytes that look like {num_pixels:,} {word}",
            f"one byte per pixel, or a list of numbers; convert bytes b with {code}, and store "
            "them with .tolist()",
        )

    def _pictures(self, contents: Sequence[bytes], rows: Rows, names: RowNames) -> Iterator[Found]:
        images, good = [], []
        for row, content in zip(rows.tolist(), contents, strict=True):
            image = decode_picture(content, names[row], self._shape, self._defects)
            if image is not None:
                self._shape = self._shape or (image.shape[0], image.shape[1])
                images.append(image)
                good.append(row)
        for values, these in by_depth(images):
            yield Found(values, np.array(good, np.intp)[these], are_pictures=True)

    def _wrong_size(
        self,
        lengths: Values,
        is_right: npt.NDArray[np.bool_],
        rows: Rows,
        names: RowNames,
        unit: str,
    ) -> None:
        if is_right.all():
            return
        first = int(lengths[~is_right][0])
        expected = f"{self._size:,} {unit}"
        if self._shape and unit == "bytes":
            expected = f"{self._shape[0]} x {self._shape[1]} pixels"
        places = [names[row] for row in rows[~is_right].tolist()]
        self._defects.add("image_size", places, f"has {first:,} {unit}", expected)

    def _from_lists(self, column: pa.Array, rows: Rows, names: RowNames) -> Found:
        """Read images stored as lists of numbers, or as one list per row of the image."""
        lengths, flat, shape = _flattened(column)
        if shape is not None and len(shape) == 2 and self._shape not in {None, shape}:
            (height, width), expected = shape, f"{self._shape[0]} x {self._shape[1]}"
            refuse("image_size", names[0], f"is an image of {height} x {width} pixels", expected)
        if shape is not None and self._shape is None and math.prod(shape[:2]) == math.prod(shape):
            self._shape = shape[0], shape[1]
        channels = shape[2:] if shape is not None and len(shape) == 3 else ()
        size = math.prod(shape) if channels and shape else self._size
        size = size or int(np.median(lengths))
        is_right = lengths == size
        if not channels:
            self._size = size
            self._wrong_size(lengths, is_right, rows, names, "values")
        flat = flat if is_right.all() else flat[np.repeat(is_right, lengths)]
        kept = rows[is_right]
        if channels and shape:
            gray = to_gray(flat.reshape(-1, *shape), [names[row] for row in kept.tolist()])
            return Found(gray, kept)
        return Found(self._shaped(flat.reshape(-1, size)), kept)


def _storage(column: pa.Array, names: RowNames) -> pa.Array:
    """Return the stored values of a column: a tensor's numbers, or `bytes` of an image struct."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        order = getattr(kind, "permutation", None)
        if order and list(order) != sorted(order):
            raise ValueError(f"its tensors are transposed: {kind}")
        return _storage(column.storage, names)
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        content = column.field("bytes")
        has_path = kind.get_field_index("path") >= 0
        if has_path and len(column) and not _is_given(content).any():
            path = next((str(path) for path in column.field("path").to_pylist() if path), "")
            if path:
                refuse("value_type", names[0], f"has a path and no bytes ({path[:80]})", EMBED)
        return content
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        example = str(column[0].as_py())[:80] if len(column) else ""
        refuse("value_type", names[0], f"has text instead of an image ({example})", EMBED)
    if not _is_bytes(kind) and not _is_list(kind):
        refuse("value_type", names[0], f"has an image of type {kind}", "bytes, a list or a tensor")
    return column


def _is_given(column: pa.Array) -> npt.NDArray[np.bool_]:
    given = column.is_valid().to_numpy(zero_copy_only=False)
    if _is_bytes(column.type):
        lengths = pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        return np.asarray(given & (lengths > 0))
    return np.asarray(given)


def _is_bytes(kind: pa.DataType) -> bool:
    types = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_type(kind) for is_type in types)


def _is_list(kind: pa.DataType) -> bool:
    types = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_type(kind) for is_type in types)


def _numbers(column: pa.Array) -> Values:
    values = column.to_numpy(zero_copy_only=False)
    # Booleans with missing values become objects.
    return np.asarray(values, np.float64) if values.dtype == object else np.asarray(values)


def _flattened(column: pa.Array) -> tuple[Values, Values, tuple[int, ...] | None]:
    """Return the length of each list, all numbers in one array, and the shape of nested lists.

    Nulls become NaN. The shape is None if the lists are not nested, or differ.
    """
    values, lengths = column, np.ones(len(column), np.int64)
    shape: list[int] = []
    while pa.types.is_nested(values.type):
        if pa.types.is_struct(values.type) or len(shape) == MAX_DEPTH:
            raise ValueError(f"unsupported image type {column.type}")
        sizes = pc.list_value_length(values).fill_null(0).to_numpy()
        ends = np.concatenate([[0], np.cumsum(sizes)])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        lengths = ends[starts[1:]] - ends[starts[:-1]]
        shape.append(int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else 0)
        values = values.flatten()
    flat = values.to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "biuf":
        raise ValueError(f"unsupported image type {column.type}")
    return lengths, flat, tuple(shape) if len(shape) > 1 and all(shape) else None
