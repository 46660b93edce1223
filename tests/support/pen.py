"""Digits written with a pen: a dataset to train on, and the strokes to draw in a browser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.own_images import CONDITIONS, Condition, mouse_digit, smooth_path, strokes
from digits.datasets.images import Images
from digits.datasets.sources.idx import format_idx
from digits.labeling.centering import fit, place
from digits.labeling.separation import box_of
from digits.settings import Settings
from tests.support.small_dataset import write_spec

NAME = "pen"
SHAPE = (28, 28)
NUM_IMAGES = {"train": 1500, "test": 300}
SPEC = """
title = "Digits written with a pen"
image_shape = [28, 28]
num_classes = 10
floor = 0.8
"""
PLAIN, *_ = CONDITIONS
SLANTED = Condition("slanted", rotation=10)

Points = list[tuple[float, float]]


def write_pen_dataset(settings: Settings, spec: str = SPEC) -> Path:
    """Write a dataset of digits in strokes, centered like MNIST's, and return its spec's path."""
    random = np.random.default_rng(11)
    folder = settings.raw_dir / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for split, num_images in NUM_IMAGES.items():
        images, labels = _written(random, num_images)
        (folder / f"{split}-images.idx").write_bytes(format_idx(images))
        (folder / f"{split}-labels.idx").write_bytes(format_idx(labels))
    return write_spec(settings, spec, NAME)


def pen_strokes(digit: int, seed: int) -> Iterator[Points]:
    """Yield each stroke of a digit as points in a 1x1 box, uneven as by hand."""
    random = np.random.default_rng(seed)
    for stroke in strokes(random, digit):
        points = smooth_path(stroke + random.normal(0, 0.02, stroke.shape))
        yield [(float(x), float(y)) for x, y in points[::4].clip(0, 1)]


def _written(random: np.random.Generator, num: int) -> tuple[Images, npt.NDArray[np.uint8]]:
    labels = random.permutation(np.arange(num) % 10).astype(np.uint8)
    return np.stack([_centered(random, int(label)) for label in labels]), labels


def _centered(random: np.random.Generator, digit: int) -> Images:
    coverage = mouse_digit(random, digit, SLANTED)
    ink = (coverage[box_of(coverage > 0)] / 255).astype(np.float32)
    return place(fit(ink, SHAPE), SHAPE)
