"""Parquet files of images (bytes, lists, tensors or pictures) and labels, read in chunks."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from digits.datasets.defects import DefectError, Defects, refuse
from digits.datasets.files.file_layouts import splits_of
from digits.datasets.files.file_names import partition_value
from digits.datasets.formats.chunks import RawChunk, RowNames, rows_at_once
from digits.datasets.formats.parquet_images import ImageReader
from digits.datasets.formats.tables.column_names import LABEL_NAMES
from digits.datasets.formats.tables.parquet_columns import ImageColumns, find_columns
from digits.spec import MAX_SIDE, Column, ImageShape, ReadOptions
from digits.thresholds import Split

UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError, NotImplementedError)
# Limit of an image before compression: 64-bit numbers, each with its repetition level.
MAX_ROW_BYTES = MAX_SIDE * MAX_SIDE * 10 + 4096
SLACK = 2**20
# Stands for a label column if the label is the name of a folder.
IN_PATH = "label in the path"

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
                schema, options = file.schema_arrow, read_options
                in_path = _label_in_path(path, schema, read_options.label_column)
                if in_path is not None:
                    schema = schema.append(pa.field(IN_PATH, pa.string()))
                    options = options.model_copy(update={"label_column": IN_PATH})
                columns = find_columns(schema, options, path, defects)
                images = ImageReader(image_shape, columns.shape, str(path), defects)
                names = RowNames(str(path), range(file.metadata.num_rows))
                step = rows_at_once(math.prod(image_shape or (MAX_SIDE, MAX_SIDE)) * 8)
                stored = [*columns.images, *([] if in_path else [columns.label])]
                chunks = file.iter_batches(step, columns=stored)
                if in_path is not None:
                    chunks = (_with_label(chunk, in_path) for chunk in chunks)
                yield from _read(chunks, columns, images, names, splits[path])
        except DefectError:
            raise
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
    columns: ImageColumns,
    images: ImageReader,
    names: RowNames,
    split: Split | None,
) -> Iterator[RawChunk]:
    start = 0
    for chunk in chunks:
        rows = names[start : start + len(chunk)]
        if len(rows) < len(chunk):
            raise ValueError(f"it has more than the {len(names):,} rows in its footer")
        start += len(chunk)
        labels = _labels(chunk.column(columns.label), rows)
        for found in images.read([chunk.column(name) for name in columns.images], rows):
            is_all = len(found.rows) == len(chunk)
            kept = rows if is_all else [rows[row] for row in found.rows.tolist()]
            yield RawChunk(
                found.values, labels[found.rows], split, kept, are_pictures=found.are_pictures
            )
    if start < len(names):
        raise ValueError(f"it has {start:,} of the {len(names):,} rows in its footer")


def _label_in_path(path: Path, schema: pa.Schema, given: Column | None) -> str | None:
    """Return the label that a folder such as label=3 states, if no column of the file does."""
    keys = LABEL_NAMES if given is None else (str(given).lower(),)
    if any(name.lower() in keys for name in schema.names):
        return None
    return partition_value(path, keys)


def _with_label(chunk: pa.RecordBatch, label: str) -> pa.RecordBatch:
    labels = pa.array([label] * len(chunk), pa.string())
    names = [*chunk.schema.names, IN_PATH]
    return pa.RecordBatch.from_arrays([*chunk.columns, labels], names)


def _labels(column: pa.Array, names: RowNames) -> Values:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array([text or "" for text in column.to_pylist()], np.object_)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        refuse("value_type", names[0], f"has a label of type {kind}", "a number or text")
    return np.asarray(column.to_numpy(zero_copy_only=False))
