"""Parquet files of images (bytes, lists, tensors or PNGs) and labels, read in chunks."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from digits.datasets.defects import Defects, refuse
from digits.datasets.formats.chunks import LABEL_NAMES, RawChunk, RowNames, rows_at_once
from digits.datasets.formats.pngs import PNG, decode_png
from digits.datasets.sources.file_layouts import splits_of
from digits.datasets.sources.file_names import partition_value
from digits.spec import MAX_SIDE, Column, ImageShape, ReadOptions
from digits.thresholds import DefectName

IMAGE_NAMES = ("image", "images", "img", "pixels", "x")
UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError, NotImplementedError)
# Limit of an image before compression: 64-bit numbers, each with its repetition level.
MAX_ROW_BYTES = MAX_SIDE * MAX_SIDE * 10 + 4096
SLACK = 2**20

Values = npt.NDArray[Any]


def read_parquet(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    read_options: ReadOptions,
    defects: Defects,
) -> Iterator[RawChunk]:
    """Yield the images and labels of Parquet files, sorted by filename.

    Raises DefectError naming the file and the problem.
    """
    splits = splits_of(files)
    for path in sorted(files):
        if not path.stat().st_size:
            refuse("empty_file", str(path), "is empty", "a Parquet file")
        try:
            with pq.ParquetFile(
                path, page_checksum_verification=True, buffer_size=SLACK, pre_buffer=False
            ) as file:
                _check_bounds(file, path)
                schema = file.schema_arrow
                image = _find_column(schema, read_options.image_column, IMAGE_NAMES, "images", path)
                in_path = _label_in_path(path, schema, read_options.label_column)
                label = in_path or _find_column(
                    schema, read_options.label_column, LABEL_NAMES, "labels", path
                )
                names = RowNames(str(path), range(file.metadata.num_rows))
                step = rows_at_once(math.prod(image_shape or (MAX_SIDE, MAX_SIDE)) * 8)
                columns = [image] if in_path else [image, label]
                chunks = file.iter_batches(step, columns=columns)
                if in_path:
                    chunks = (_with_label(chunk, in_path) for chunk in chunks)
                for values, labels, kept in _read(chunks, names, image_shape, defects):
                    yield RawChunk(values, labels, splits[path], kept)
        except UNREADABLE as error:
            refuse("corrupt_file", str(path), f"cannot be read: {error}", "an intact Parquet file")


def _check_bounds(file: pq.ParquetFile, path: Path) -> None:
    metadata = file.metadata
    if not metadata.num_rows:
        refuse("empty_file", str(path), "has no rows", "one per image")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            size = group.column(place).total_uncompressed_size
            if size > group.num_rows * MAX_ROW_BYTES + SLACK:
                found = f"claims {size:,} bytes for {group.num_rows:,} rows"
                refuse("unbounded", str(path), found, f"at most {MAX_ROW_BYTES:,} per row")


def _read(
    chunks: Iterable[pa.RecordBatch],
    names: RowNames,
    image_shape: ImageShape | None,
    defects: Defects,
) -> Iterator[tuple[Values, Values, Sequence[str]]]:
    start = 0
    for chunk in chunks:
        rows = names[start : start + len(chunk)]
        if len(rows) < len(chunk):
            raise ValueError(f"it has more than the {len(names):,} rows in its footer")
        start += len(chunk)
        labels = _labels(chunk.column(1), rows)
        values, good = _values(_storage(chunk.column(0)), image_shape, rows, defects)
        if image_shape is None and len(values) and values.ndim == 3:
            image_shape = values.shape[1:]
        yield values, labels[good], [rows[row] for row in good] if len(good) < len(chunk) else rows
    if start < len(names):
        raise ValueError(f"it has {start:,} of the {len(names):,} rows in its footer")


def _find_column(
    schema: pa.Schema, given: Column | None, usual: Sequence[str], what: str, path: Path
) -> str:
    """Return the name of the image or label column. Raises DefectError if it is missing."""
    names: list[str] = schema.names
    if isinstance(given, int) and -len(names) <= given < len(names):
        return names[given]
    if given in names:
        return str(given)
    found = [name for name in names if name.lower() in usual] if given is None else []
    if not found:
        shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        wanted = given if given is not None else " or ".join(usual)
        check: DefectName = "label_missing" if what == "labels" else "value_type"
        refuse(check, str(path), f"has the columns {shown}", f"{what} in column {wanted}")
    return found[0]


def _label_in_path(path: Path, schema: pa.Schema, given: Column | None) -> str | None:
    """Return the label that a folder such as label=3 states, if no column of the file does."""
    keys = LABEL_NAMES if given is None else (str(given).lower(),)
    if any(name.lower() in keys for name in schema.names):
        return None
    return partition_value(path, keys)


def _with_label(chunk: pa.RecordBatch, label: str) -> pa.RecordBatch:
    labels = pa.array([label] * len(chunk), pa.string())
    return pa.RecordBatch.from_arrays([chunk.column(0), labels], ["image", "label"])


def _storage(column: pa.Array) -> pa.Array:
    """Return the stored values of a column: a tensor's numbers, or `bytes` of an image struct."""
    if isinstance(column, pa.ExtensionArray):
        order = getattr(column.type, "permutation", None)
        if order and list(order) != sorted(order):
            raise ValueError(f"its tensors are transposed: {column.type}")
        return column.storage
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        return column.field("bytes")
    return column


def _values(
    column: pa.Array, image_shape: ImageShape | None, names: RowNames, defects: Defects
) -> tuple[Values, npt.NDArray[np.intp]]:
    """Return the images of a column and the indices of their rows."""
    kind, where = column.type, names[0]
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    is_list |= pa.types.is_fixed_size_list(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    is_bytes |= pa.types.is_fixed_size_binary(kind)
    if not is_list and not is_bytes:
        refuse("value_type", where, f"has an image of type {kind}", "bytes, a list or a tensor")
    good = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    _note(defects, names, good, "has no image")
    column = column if len(good) == len(column) else column.take(pa.array(good))
    if is_bytes:
        return _from_bytes(column, good, image_shape, names, defects)
    return _from_lists(column, good, image_shape, names, defects)


def _note(
    defects: Defects, names: RowNames, good: npt.NDArray[np.intp], found: str, expected: str = ""
) -> None:
    wrong = np.setdiff1d(np.arange(len(names)), good)
    if len(wrong):
        expected = expected or "an image in each row"
        defects.add("image_size", [names[row] for row in wrong], found, expected)


def _from_bytes(
    column: pa.Array,
    rows: npt.NDArray[np.intp],
    image_shape: ImageShape | None,
    names: RowNames,
    defects: Defects,
) -> tuple[Values, npt.NDArray[np.intp]]:
    images, good = [], []
    for row, content in zip(rows, column.to_pylist(), strict=True):
        if content.startswith(PNG):
            image = decode_png(content, names[row], image_shape, defects)
            if image is None:
                continue
            image_shape = image_shape or image.shape
        else:
            image = np.frombuffer(content, np.uint8)
            height, width = image_shape or _square(len(image))
            if len(image) != height * width:
                found, expected = f"has {len(image):,} bytes", f"{height} x {width} pixels"
                defects.add("image_size", [names[row]], found, expected)
                continue
            image = image.reshape(height, width)
            image_shape = height, width
        images.append(image)
        good.append(row)
    shape = image_shape or (0, 0)
    return np.array(images, np.uint8).reshape(-1, *shape), np.array(good, np.intp)


def _from_lists(
    column: pa.Array,
    rows: npt.NDArray[np.intp],
    image_shape: ImageShape | None,
    names: RowNames,
    defects: Defects,
) -> tuple[Values, npt.NDArray[np.intp]]:
    """Read images stored as lists of numbers, or as one list per row of the image."""
    lengths, flat = _flattened(column)
    size = math.prod(image_shape) if image_shape else int(np.median(lengths or [1]))
    is_right = np.asarray(lengths) == size
    if len(rows) and not is_right.all():
        first = int(np.flatnonzero(~is_right)[0])
        found = f"has {lengths[first]:,} values"
        wrong = [names[row] for row in rows[~is_right]]
        defects.add("image_size", wrong, found, f"{size:,} values")
        flat = flat[np.repeat(is_right, lengths)]
    return flat.reshape(-1, size), rows[is_right]


def _flattened(column: pa.Array) -> tuple[list[int], Values]:
    """Return the length of each list and all numbers in one array; nulls become NaN."""
    values, lengths = column, np.ones(len(column), np.int64)
    depth = 0
    while pa.types.is_nested(values.type):
        if pa.types.is_struct(values.type) or depth == 3:
            raise ValueError(f"unsupported image type {column.type}")
        sizes = pc.list_value_length(values).fill_null(0).to_numpy()
        ends = np.concatenate([[0], np.cumsum(sizes)])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        lengths = ends[starts[1:]] - ends[starts[:-1]]
        values = values.flatten()
        depth += 1
    flat = values.to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "biuf":
        raise ValueError(f"unsupported image type {column.type}")
    return lengths.tolist(), flat


def _labels(column: pa.Array, names: RowNames) -> Values:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array([text or "" for text in column.to_pylist()], np.object_)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        refuse("value_type", names[0], f"has a label of type {kind}", "a number or text")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _square(num_pixels: int) -> ImageShape:
    side = math.isqrt(num_pixels)
    return side, side
