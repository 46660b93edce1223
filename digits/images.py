"""Images and labels as Parquet, one row an image: typed, checked, the same bytes each time."""

import hashlib
import json
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


def write_split(path: Path, images: Images, labels: npt.NDArray[Any]) -> None:
    """Write images uint8 (N, H, W) and labels (N,), each page with a checksum."""
    table = pa.table(
        [
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(images[0].size), len(images), [None, pa.py_buffer(images.tobytes())]
            ),
            pa.array(labels, pa.uint16()),
        ],
        schema=_schema(images.shape[1:]),
    )
    pq.write_table(
        table, path, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True
    )


def iter_split(path: Path, layout: Layout) -> Iterator[tuple[Images, Labels]]:
    """Batches of images uint8 (n, H, W) and labels uint16 (n,), of one row group at a time.

    Raises DamagedError when the file is not what write_split writes for this layout.
    """
    height, width = layout.image_shape
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(_schema((height, width)), check_metadata=True):
                raise DamagedError(
                    f"{path} does not hold images of {height}x{width} as they were written: found "
                    f"{file.schema_arrow.to_string(show_field_metadata=True)!r}"
                )
            for batch in file.iter_batches(ROW_GROUP):
                column = batch.column("image")
                start = column.offset * height * width
                pixels = np.frombuffer(column.buffers()[1], np.uint8)
                images = pixels[start : start + len(column) * height * width]
                yield images.reshape(-1, height, width), batch.column("label").to_numpy()
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error


def read_split(path: Path, layout: Layout) -> tuple[Images, Labels]:
    """All images uint8 (N, H, W) and labels uint16 (N,) of a split."""
    try:
        num_images = pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    images = np.empty((num_images, *layout.image_shape), np.uint8)
    labels = np.empty(num_images, np.uint16)
    start = 0
    for some_images, some_labels in iter_split(path, layout):
        images[start : start + len(some_images)] = some_images
        labels[start : start + len(some_images)] = some_labels
        start += len(some_images)
    return images, labels


def content_digest(images: Images, labels: npt.NDArray[Any]) -> str:
    """SHA-256 over shape, pixels and labels: what the images are, however they are encoded."""
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<u2").data)
    return digest.hexdigest()


def _schema(shape: tuple[int, ...]) -> pa.Schema:
    metadata = {"shape": json.dumps(list(shape)), "dtype": "uint8"}
    pixels = int(np.prod(shape))
    return pa.schema(
        [
            pa.field("image", pa.binary(pixels), nullable=False, metadata=metadata),
            pa.field("label", pa.uint16(), nullable=False),
        ]
    )
