"""A small made-up handwriting dataset without defects, and bounds that fit it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.datasets.images import write_split
from digits.spec import Layout
from digits.thresholds import CentroidFile, Split, SplitThresholds, Thresholds
from digits.validation.centroids import compute_centroids, freeze_centroids

NUM_CLASSES = 10
SHAPE = (12, 12)
NUM_IMAGES: dict[Split, int] = {"train": 600, "test": 200}
LAYOUT = Layout(
    name="handwriting",
    image_shape=SHAPE,
    num_classes=NUM_CLASSES,
    class_names=tuple("0123456789"),
)

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]
Splits = dict[Split, Pair]


def make_splits() -> Splits:
    """Make the images uint8 (n, 12, 12) and labels uint16 (n,) of both splits, always the same.

    Each class is a pattern of its own on a black background, in strokes of varying brightness. All
    classes are equally frequent; the order is random.
    """
    rng = np.random.default_rng(7)
    patterns = _patterns(rng)
    splits: Splits = {}
    for split, num_images in NUM_IMAGES.items():
        labels = rng.permutation(np.arange(num_images) % NUM_CLASSES).astype(np.uint16)
        splits[split] = (_write(patterns[labels], rng), labels)
    return splits


def make_more(num_images: int, seed: int) -> Pair:
    """Make more images in the same handwriting, of random classes: data that is added later."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, num_images).astype(np.uint16)
    return _write(_patterns(np.random.default_rng(7))[labels], rng), labels


def _patterns(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    patterns = rng.random((NUM_CLASSES, *SHAPE)) < 0.25
    patterns[:, 0, 0] = False
    return patterns


def _write(strokes: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    is_ink = strokes ^ (rng.random(strokes.shape) < 0.05)
    images = np.where(is_ink, rng.integers(180, 256, is_ink.shape), 0).astype(np.uint8)
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    return images


def make_thresholds(centroids: CentroidFile | None = None) -> Thresholds:
    """Make thresholds with every bound, just wide enough for the handwriting without defects."""
    common = {
        "max_pixel_min": 0,
        "min_pixel_max": 255,
        "min_ink": 0.05,
        "max_ink": 0.5,
        "min_mean_pixel": 40.0,
        "max_mean_pixel": 80.0,
        "max_duplicates": 0,
        "max_shared_images": 0,
        "max_near_duplicates": 0,
        "min_centroid_accuracy": 0.9 if centroids else None,
        "min_label_repeats": 0.02,
        "max_label_repeats": 0.2,
    }
    bounds = {
        split: SplitThresholds(
            num_images=num_images,
            min_class_size=num_images // NUM_CLASSES - 5,
            max_class_size=num_images // NUM_CLASSES + 5,
            **common,
        )
        for split, num_images in NUM_IMAGES.items()
    }
    return Thresholds(**bounds, centroids=centroids, max_label_divergence=0.003)


def write_dataset(splits: Splits, folder: Path) -> Path:
    """Write train.parquet and test.parquet into the folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in splits.items():
        write_split(folder / f"{split}.parquet", images, labels)
    return folder


def write_centroids(splits: Splits, folder: Path) -> CentroidFile:
    """Freeze the mean images of the training split into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    centroids = compute_centroids([splits["train"]], NUM_CLASSES)
    return freeze_centroids(centroids, folder / "handwriting.centroids.npy")
