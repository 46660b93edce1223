"""Normalize: turn stored images into the arrays that models read."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from digits.datasets.images import iter_split
from digits.errors import DamagedError
from digits.storage.references import ArraysRef, DatasetRef
from digits.storage.store import Store


def store_arrays(dataset: DatasetRef, store: Store) -> ArraysRef:
    """Store x_*.npy float32 (N, H, W, 1), pixels in 0..1, and y_*.npy int32 (N,), class indices.

    The arrays are plain .npy files so that training can map them into memory. Raises DamagedError
    if the dataset's files are missing or corrupted.
    """
    store.verify(dataset)
    folder = store.folder(dataset)
    with store.create("arrays") as draft:
        for split, num_images in (("train", dataset.num_train), ("test", dataset.num_test)):
            _normalize_split(folder / f"{split}.parquet", dataset, num_images, draft.path)
    return ArraysRef(
        digest=draft.digest,
        layout=dataset.layout,
        num_train=dataset.num_train,
        num_test=dataset.num_test,
        test_digest=dataset.test_digest,
    )


def _normalize_split(source: Path, dataset: DatasetRef, num_images: int, output: Path) -> None:
    """Write the two arrays of a split, one row group of images at a time."""
    split, shape = source.stem, (num_images, *dataset.layout.image_shape, 1)
    num_written = 0
    with (output / f"x_{split}.npy").open("wb") as x, (output / f"y_{split}.npy").open("wb") as y:
        write_header(x, shape, np.float32)
        write_header(y, (num_images,), np.int32)
        for images, labels in iter_split(source, dataset.layout):
            x.write(np.divide(images, np.float32(255)).data)
            y.write(labels.astype(np.int32).data)
            num_written += len(images)
    if num_written != num_images:
        raise DamagedError(f"{source} contains {num_written:,} images, expected {num_images:,}")


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Write the header of an .npy file, whose content follows."""
    # Written as a byte stream: on a full disk a mapped file kills the process, and numpy.save
    # raises an error that does not give the reason.
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
