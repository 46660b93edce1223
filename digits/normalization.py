"""From images as they are stored to arrays as the models take them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.images import Images, read_split
from digits.references import ArraysRef, DatasetRef
from digits.store import Store

CHUNK = 8192


def store_arrays(dataset: DatasetRef, store: Store) -> ArraysRef:
    """Store x_*.npy float32 (N, H, W, 1), pixels in 0..1, and y_*.npy int32 (N,), class indices.

    The arrays are plain .npy, so that training maps them into memory. Raises DamagedError when the
    dataset's files are not as they were written.
    """
    store.verify(dataset)
    folder = store.folder(dataset)
    with store.create("arrays") as draft:
        for split in ("train", "test"):
            images, labels = read_split(folder / f"{split}.parquet", dataset.layout)
            _write(draft.path / f"x_{split}.npy", (*images.shape, 1), np.float32, _scaled(images))
            _write(draft.path / f"y_{split}.npy", labels.shape, np.int32, [labels.astype(np.int32)])
    return ArraysRef(
        digest=draft.digest,
        layout=dataset.layout,
        num_train=dataset.num_train,
        num_test=dataset.num_test,
        test_digest=dataset.test_digest,
    )


def _scaled(images: Images) -> Iterator[npt.NDArray[np.float32]]:
    """Images with their pixels in 0..1, a part at a time: all of them take four times the room."""
    for start in range(0, len(images), CHUNK):
        yield np.divide(images[start : start + CHUNK], np.float32(255))


def _write(
    path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, parts: Iterable[npt.NDArray[Any]]
) -> None:
    """Write the parts of an array, one after the other, as one .npy file."""
    # As a stream of bytes: on a full disk a mapped file kills the process, and numpy.save raises
    # an error that does not say what happened.
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.tobytes())
