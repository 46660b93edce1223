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
from digits.datasets.formats.chunks import RawChunk, RowNames, rows_at_once
from digits.datasets.formats.parquet_images import ImageReader
from digits.datasets.formats.tables.parquet_columns import ImageColumns, find_columns
from digits.datasets.sources.file_layouts import splits_of
from digits.spec import MAX_SIDE, ImageShape, ReadOptions
from digits.thresholds import Split

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
                columns = find_columns(file.schema_arrow, read_options, path, defects)
                images = ImageReader(image_shape, columns.shape, str(path), defects)
                names = RowNames(str(path), range(file.metadata.num_rows))
                step = rows_at_once(math.prod(image_shape or (MAX_SIDE, MAX_SIDE)) * 8)
                chunks = file.iter_batches(step, columns=[*columns.images, columns.label])
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


def _labels(column: pa.Array, names: RowNames) -> Values:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array([text or "" for text in column.to_pylist()], np.object_)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        refuse("value_type", names[0], f"has a label of type {kind}", "a number or text")
    return np.asarray(column.to_numpy(zero_copy_only=False))
