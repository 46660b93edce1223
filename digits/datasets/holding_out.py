"""Held-out images: a part of the training set in place of the test set, to choose settings on."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.datasets.normalization import write_header
from digits.storage.references import ArraysRef
from digits.storage.store import Store

# One in six: as many of MNIST's training images as it has test images.
SHARE = 6
CHUNK = 4096


def hold_out(arrays: ArraysRef, store: Store) -> ArraysRef:
    """Store arrays whose test set is a sixth of the training set, and which lack the real one.

    The images are drawn at random, and always the same.
    """
    folder = store.folder(arrays)
    order = np.random.default_rng(2024).permutation(arrays.num_train)
    number = arrays.num_train // SHARE
    parts = {"train": order[number:], "test": order[:number]}
    digest = hashlib.sha256()
    with store.create("arrays") as draft:
        for name in "xy":
            source = np.load(folder / f"{name}_train.npy", mmap_mode="r", allow_pickle=False)
            for split, rows in parts.items():
                path = draft.path / f"{name}_{split}.npy"
                _write_rows(path, source, rows, digest if split == "test" else None)
    return ArraysRef(
        digest=draft.digest,
        layout=arrays.layout,
        num_train=len(parts["train"]),
        num_test=len(parts["test"]),
        test_digest=digest.hexdigest(),
    )


def _write_rows(
    path: Path,
    source: npt.NDArray[np.generic],
    rows: npt.NDArray[np.int64],
    digest: "hashlib._Hash | None",
) -> None:
    with path.open("wb") as file:
        write_header(file, (len(rows), *source.shape[1:]), source.dtype)
        for start in range(0, len(rows), CHUNK):
            content = source[rows[start : start + CHUNK]].tobytes()
            file.write(content)
            if digest is not None:
                digest.update(content)
