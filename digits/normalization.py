"""From images as they are stored to arrays as the models take them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.images import read_split
from digits.references import ArraysRef, DatasetRef
from digits.store import Store

CHUNK = 8192


def store_arrays(dataset: DatasetRef, store: Store) -> ArraysRef:
    """Store x_*.npy float32 (N, H, W, 1), pixels in 0..1, and y_*.npy int32 (N,), class indices.

    The arrays are plain .npy, so that training maps them into memory. Raises DamagedError when the
    dataset's files are not as they were written.
    """
    folder = store.folder(dataset)
    with store.create("arrays") as draft:
        for split in ("train", "test"):
            images, labels = read_split(folder / f"{split}.parquet", dataset.layout)
            np.save(draft.path / f"y_{split}.npy", labels.astype(np.int32))
            _write_pixels(draft.path / f"x_{split}.npy", images)
    return ArraysRef(
        digest=draft.digest,
        layout=dataset.layout,
        num_train=dataset.num_train,
        num_test=dataset.num_test,
        test_digest=dataset.test_digest,
    )


def _write_pixels(path: Path, images: npt.NDArray[np.uint8]) -> None:
    # Written as a stream: a full disk is then an error; in a mapped file it kills the process.
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        "fortran_order": False,
        "shape": (*images.shape, 1),
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(images), CHUNK):
            file.write(np.divide(images[start : start + CHUNK], np.float32(255)).tobytes())
