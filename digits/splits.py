"""The four files of a dataset as arrays, checked against what its spec says they are."""

from typing import Any

import numpy as np
import numpy.typing as npt

from digits.dataset import Layout
from digits.errors import DataError
from digits.idx import parse_idx
from digits.rawfiles import Files, RawFile

Array = npt.NDArray[Any]


def load_raw(files: Files, layout: Layout) -> tuple[Array, Array, Array, Array]:
    """x_train, y_train, x_test, y_test: images uint8 (N, H, W) and labels uint8 (N,).

    Raises DataError when a file is not what its role and the layout ask for.
    """
    x_train, y_train = _load_split(files["train-images"], files["train-labels"], layout)
    x_test, y_test = _load_split(files["test-images"], files["test-labels"], layout)
    return x_train, y_train, x_test, y_test


def _load_split(image_file: RawFile, label_file: RawFile, layout: Layout) -> tuple[Array, Array]:
    images = parse_idx(image_file.content, str(image_file.path))
    labels = parse_idx(label_file.content, str(label_file.path))
    height, width = layout.image_shape
    if images.ndim != 3 or images.shape[1:] != (height, width):
        hint = "; these look like labels: are the two files swapped?" if images.ndim == 1 else ""
        raise DataError(
            f"{image_file.path} holds {_described(images)} values, expected images, "
            f"N x {height} x {width}{hint}"
        )
    if labels.ndim != 1:
        raise DataError(
            f"{label_file.path} holds {_described(labels)} values, expected labels, one for each "
            f"of {len(images):,} images; these look like images: are the two files swapped?"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{image_file.path} holds {len(images):,} images and {label_file.path} {len(labels):,} "
            "labels, expected as many of each: one of them may be the other split's"
        )
    wrong = np.flatnonzero(labels >= layout.num_classes)
    if len(wrong):
        raise DataError(
            f"{label_file.path} holds {len(wrong):,} labels above {layout.num_classes - 1}, "
            f"expected {layout.num_classes} classes; the first is {labels[wrong[0]]} in row "
            f"{wrong[0]}"
        )
    return images, labels


def _described(array: Array) -> str:
    return " x ".join(f"{size:,}" for size in array.shape)
