"""Images and labels as Parquet, one image per row: typed, checked, reproducible byte for byte."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from digits.errors import DamagedError
from digits.spec import Layout

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint16]
ROW_GROUP = 8192
UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError)


class SplitWriter:
    """Write a split chunk by chunk, with at most one row group of images in memory.

    Equal images and labels give equal bytes for the same version of pyarrow, however they are
    divided into chunks. Each page has a checksum.
    """

    def __init__(self, path: Path, image_shape: tuple[int, ...]) -> None:
        self.num_images = 0
        self._schema = _schema(image_shape)
        self._images: Images = np.empty((ROW_GROUP, *image_shape), np.uint8)
        self._labels: Labels = np.empty(ROW_GROUP, np.uint16)
        self._num_waiting = 0
        self._file = pq.ParquetWriter(
            path, self._schema, compression="zstd", write_page_checksum=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None and (self._num_waiting or not self.num_images):
                self._flush()

    def write(self, images: Images, labels: npt.NDArray[Any]) -> None:
        """Add images uint8 (n, H, W) and labels (n,) in 0..65535."""
        start = 0
        while start < len(images):
            num = min(len(images) - start, ROW_GROUP - self._num_waiting)
            end, room = start + num, slice(self._num_waiting, self._num_waiting + num)
            self._images[room] = images[start:end]
            self._labels[room] = pa.array(labels[start:end], pa.uint16()).to_numpy()
            self._num_waiting += num
            start = end
            if self._num_waiting == ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        num, kind = self._num_waiting, self._schema.field("image").type
        buffer = pa.py_buffer(self._images[:num].tobytes())
        pixels = pa.FixedSizeBinaryArray.from_buffers(kind, num, [None, buffer])
        columns = [pixels, pa.array(self._labels[:num])]
        self._file.write_table(pa.table(columns, schema=self._schema), ROW_GROUP)
        self.num_images += num
        self._num_waiting = 0


def write_split(path: Path, images: Images, labels: npt.NDArray[Any]) -> None:
    """Write a complete split at once: images uint8 (N, H, W), labels (N,) in 0..65535."""
    with SplitWriter(path, images.shape[1:]) as writer:
        writer.write(images, labels)


def iter_split(path: Path, layout: Layout) -> Iterator[tuple[Images, Labels]]:
    """Yield images uint8 (n, H, W) and labels uint16 (n,), one row group at a time.

    Raises DamagedError if the file is not what write_split writes for this layout.
    """
    with _opened(path, layout) as file:
        yield from _chunks(file, path, layout)


def read_split(path: Path, layout: Layout) -> tuple[Images, Labels]:
    """Return images uint8 (N, H, W) and labels uint16 (N,) of a split; raises like iter_split."""
    with _opened(path, layout) as file:
        # Filled chunk by chunk: a table of all rows would take twice the memory.
        num_images = file.metadata.num_rows
        images = np.empty((num_images, *layout.image_shape), np.uint8)
        labels = np.empty(num_images, np.uint16)
        start = 0
        for some_images, some_labels in _chunks(file, path, layout):
            end = start + len(some_images)
            images[start:end], labels[start:end] = some_images, some_labels
            start = end
    return images, labels


def content_digest(path: Path, layout: Layout) -> str:
    """SHA-256 over shape, pixels and labels of a split, independent of their encoding.

    Raises like iter_split.
    """
    all_labels = []
    with _opened(path, layout) as file:
        shape = (file.metadata.num_rows, *layout.image_shape)
        digest = hashlib.sha256(json.dumps(shape).encode())
        for images, labels in _chunks(file, path, layout):
            digest.update(np.ascontiguousarray(images).data)
            all_labels.append(labels.astype("<u2"))
    for labels in all_labels:
        digest.update(labels.data)
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
        # With pre-buffering, the complete file is loaded before its first row group is read.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            if not file.schema_arrow.equals(expected, check_metadata=True):
                raise DamagedError(
                    f"{path}: schema does not match: found {_described(file.schema_arrow)}, "
                    f"expected {_described(expected)}"
                )
            yield file
    except UNREADABLE as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error


def _chunks(file: pq.ParquetFile, path: Path, layout: Layout) -> Iterator[tuple[Images, Labels]]:
    height, width = layout.image_shape
    num_rows = 0
    for chunk in file.iter_batches(ROW_GROUP):
        column = chunk.column("image")
        start = column.offset * height * width
        pixels = np.frombuffer(column.buffers()[1], np.uint8)
        images = pixels[start : start + len(column) * height * width]
        num_rows += len(column)
        if num_rows > file.metadata.num_rows:
            break
        yield images.reshape(-1, height, width), chunk.column("label").to_numpy()
    # The footer, which states the number of rows, has no checksum.
    if num_rows != file.metadata.num_rows:
        raise DamagedError(
            f"{path}: the footer says {file.metadata.num_rows:,} images, found {num_rows:,}"
        )
