"""The mean image of each class: frozen next to a dataset spec, to check labels against pixels.

On MNIST, about four of five images are nearest to the mean of their own class. Shuffled labels and
turned or shifted images change that share at once, while every check of labels alone or pixels
alone still passes.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from digits.datasets.images import Images, Labels
from digits.errors import DataError
from digits.thresholds import CentroidFile


def compute_centroids(batches: Iterable[tuple[Images, Labels]], num_classes: int) -> Images:
    """Mean image of each class, rounded: uint8 of shape (num_classes, height, width).

    `batches` yields images (n, height, width) and their labels (n,). The sums are exact integers,
    so the result does not depend on the order or the grouping of the images.

    Raises:
        DataError: a class has no images.
    """
    counts = np.zeros(num_classes, np.int64)
    sums: npt.NDArray[np.int64] | int = 0
    for images, labels in batches:
        one_hot = labels[:, None] == np.arange(num_classes)
        counts += one_hot.sum(axis=0)
        # Sums of pixels stay far below 2**53: float64 represents them exactly and multiplies fast.
        product = one_hot.T.astype(np.float64) @ images.reshape(len(images), -1)
        sums = sums + product.astype(np.int64).reshape(num_classes, *images.shape[1:])
    if not counts.all():
        missing = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise DataError(f"class {missing}: no images for a mean image (expected at least one)")
    return np.rint(sums / counts[:, None, None]).astype(np.uint8)


def freeze_centroids(centroids: Images, path: Path) -> CentroidFile:
    """Write centroids to `path`; return the contents of the spec's [thresholds.centroids] table.

    data/datasets/mnist.centroids.npy is `compute_centroids` of the 60,000 MNIST training images.
    """
    buffer = io.BytesIO()
    np.save(buffer, centroids, allow_pickle=False)
    path.write_bytes(buffer.getvalue())
    return CentroidFile(name=path.name, sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


def load_centroids(
    file: CentroidFile, folders: Sequence[Path], image_shape: tuple[int, int], num_classes: int
) -> Images:
    """Read the centroids that a spec names, from the first of `folders` that contains the file.

    Raises:
        DataError: the file is missing, or does not match the SHA-256 or the layout in the spec.
    """
    path = next((path for folder in folders if (path := folder / file.name).exists()), None)
    if path is None:
        raise DataError(
            f"{file.name}: class centroids of the dataset spec not found in"
            f" {' or '.join(map(str, folders))}; restore the file, or remove [thresholds.centroids]"
            " and min_centroid_accuracy from the spec"
        )
    content = _read_proved(path, file.sha256)
    try:
        centroids = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        found = f"{centroids.dtype} of shape {centroids.shape}"
    except ValueError as error:
        raise DataError(f"{path}: not a valid .npy file of class centroids ({error})") from error
    expected = f"uint8 of shape {(num_classes, *image_shape)}"
    if found != expected:
        raise DataError(
            f"{path}: contains {found} (expected {expected}); freeze the centroids of this dataset"
            " again"
        )
    return cast(Images, centroids)


def _read_proved(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the class centroids ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path}: SHA-256 {found} does not match the dataset spec (expected {sha256});"
            " restore the file, or correct [thresholds.centroids] in the spec"
        )
    return content


def nearest_classes(images: Images, centroids: Images) -> npt.NDArray[np.intp]:
    """Class of the nearest centroid (Euclidean) of each image: shape (n,).

    A tie goes to the lower class. Exact integers make the result the same on every machine.
    """
    means = centroids.reshape(len(centroids), -1).astype(np.float64)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    # |x - c|^2 without |x|^2, which is the same for every centroid.
    distances = (means**2).sum(axis=1) - 2.0 * (pixels @ means.T)
    return np.asarray(distances.argmin(axis=1))
