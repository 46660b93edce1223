"""Images and labels as Parquet, one row an image: typed, checked, the same bytes each time."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from digits.dataset import Layout
from digits.errors import DamagedError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint16]
ROW_GROUP = 8192
UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError)


def write_split(path: Path, images: Images, labels: npt.NDArray[Any]) -> None:
    """Write images uint8 (N, H, W) and labels (N,) in 0..65535, each page with a checksum.

    Equal images and labels give equal bytes, as long as pyarrow's version is the same.
    """
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(math.prod(images.shape[1:])), len(images), [None, pa.py_buffer(images.tobytes())]
    )
    table = pa.table([pixels, pa.array(labels, pa.uint16())], schema=_schema(images.shape[1:]))
    pq.write_table(
        table, path, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True
    )


def iter_split(path: Path, layout: Layout) -> Iterator[tuple[Images, Labels]]:
    """Batches of images uint8 (n, H, W) and labels uint16 (n,), of one row group at a time.

    Raises DamagedError when the file is not what write_split writes for this layout.
    """
    with _opened(path, layout) as file:
        yield from _batches(file, path, layout)


def read_split(path: Path, layout: Layout) -> tuple[Images, Labels]:
    """All images uint8 (N, H, W) and labels uint16 (N,) of a split. Raises as iter_split does."""
    with _opened(path, layout) as file:
        # Filled batch by batch: a table of all rows would take twice the memory.
        num_images = file.metadata.num_rows
        images = np.empty((num_images, *layout.image_shape), np.uint8)
        labels = np.empty(num_images, np.uint16)
        start = 0
        for some_images, some_labels in _batches(file, path, layout):
            end = start + len(some_images)
            images[start:end], labels[start:end] = some_images, some_labels
            start = end
    return images, labels


def content_digest(images: Images, labels: npt.NDArray[Any]) -> str:
    """SHA-256 over shape, pixels and labels: what the images are, however they are encoded."""
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<u2").data)
    return digest.hexdigest()


def _schema(shape: tuple[int, ...]) -> pa.Schema:
    metadata = {"shape": json.dumps(list(shape)), "dtype": "uint8"}
    return pa.schema(
        [
            pa.field("image", pa.binary(math.prod(shape)), nullable=False, metadata=metadata),
            pa.field("label", pa.uint16(), nullable=False),
        ]
    )


def _described(schema: pa.Schema) -> str:
    return " ".join(schema.to_string(show_field_metadata=True).split())


@contextlib.contextmanager
def _opened(path: Path, layout: Layout) -> Iterator[pq.ParquetFile]:
    expected = _schema(layout.image_shape)
    try:
        # Buffered ahead, the whole file would lie in memory before its first row group is read.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            if not file.schema_arrow.equals(expected, check_metadata=True):
                raise DamagedError(
                    f"{path} holds {_described(file.schema_arrow)}, expected {_described(expected)}"
                )
            yield file
    except UNREADABLE as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error


def _batches(file: pq.ParquetFile, path: Path, layout: Layout) -> Iterator[tuple[Images, Labels]]:
    height, width = layout.image_shape
    num_rows = 0
    for batch in file.iter_batches(ROW_GROUP):
        column = batch.column("image")
        start = column.offset * height * width
        pixels = np.frombuffer(column.buffers()[1], np.uint8)
        images = pixels[start : start + len(column) * height * width]
        num_rows += len(column)
        if num_rows > file.metadata.num_rows:
            break
        yield images.reshape(-1, height, width), batch.column("label").to_numpy()
    # The footer, which says how many there are, has no checksum.
    if num_rows != file.metadata.num_rows:
        raise DamagedError(
            f"{path} announces {file.metadata.num_rows:,} images and holds {num_rows:,}"
        )
