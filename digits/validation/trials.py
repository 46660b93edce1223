"""Trials on test images: are pictures to be centered like MNIST's, and do the digits look upright?

A class is guessed by the nearest mean image.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from digits.datasets.images import Images, Labels
from digits.errors import DataError
from digits.spec import ImageShape
from digits.validation.centroids import nearest_classes

Center = Callable[[Images, Sequence[ImageShape]], Sequence[Images]]
"""Centers a gray image (h, w) in a field of each shape; raises DataError if nothing was drawn."""

MAX_IMAGES = 400
DIGITS = tuple("0123456789")
# Centered images may lose this much accuracy: some loss is due to the field, not the form.
MAX_LOSS = 0.1
# Turned digits must fit this much better than upright ones, and at least this well.
MIN_GAIN, MIN_FIT = 0.15, 0.3

TURNS: Mapping[str, Callable[[Images], Images]] = {
    "upright": lambda images: images,
    "transposed": lambda images: images.transpose(0, 2, 1),
    "rotated by 90 degrees to the left": lambda images: np.rot90(images, -1, (1, 2)),
    "rotated by 90 degrees to the right": lambda images: np.rot90(images, 1, (1, 2)),
    "upside down": lambda images: np.rot90(images, 2, (1, 2)),
    "mirrored left to right": lambda images: images[:, :, ::-1],
    "mirrored top to bottom": lambda images: images[:, ::-1],
    "transposed and upside down": lambda images: np.rot90(images.transpose(0, 2, 1), 2, (1, 2)),
}
"""What images may look like, and how to turn them upright."""


@dataclass(frozen=True)
class Trials:
    """Shares of a sample of test images whose nearest mean image is that of their label.

    `as_is` and `centered` compare with the mean images of train. `fits` maps each of TURNS to the
    share after turning the images so, compared with MNIST's mean images; empty if the classes are
    not the ten digits.
    """

    num_images: int
    as_is: float
    centered: float
    fits: Mapping[str, float]

    @property
    def should_center(self) -> bool:
        """Whether pictures to label should be centered, as far as the images tell."""
        return self.centered >= self.as_is - MAX_LOSS

    @property
    def look(self) -> str:
        """What the digits look like; "upright" if another answer is not certain."""
        if not self.fits:
            return "upright"
        best = max(self.fits, key=lambda turn: self.fits[turn])
        is_certain = self.fits[best] >= max(MIN_FIT, self.fits["upright"] + MIN_GAIN)
        return best if is_certain else "upright"


def try_images(
    images: Images, labels: Labels, means: Images, center: Center, digit_means: Images | None
) -> Trials:
    """Try images (n, H, W) with labels (n,) against the mean images (K, H, W) of their classes.

    `digit_means` are those of MNIST, or None if the classes are not the ten digits.
    """
    of_digits = means if digit_means is None else digit_means
    shapes = [(mean.shape[1], mean.shape[2]) for mean in (means, of_digits)]
    centered, as_digits = _centered(images, center, shapes)
    fits = {}
    if digit_means is not None:
        fits = {
            turn: _share(np.ascontiguousarray(upright(as_digits)), labels, digit_means)
            for turn, upright in TURNS.items()
        }
    return Trials(
        num_images=len(images),
        as_is=_share(images, labels, means),
        centered=_share(centered, labels, means),
        fits=fits,
    )


def sampled(chunks: Iterable[tuple[Images, Labels]], num_images: int) -> tuple[Images, Labels]:
    """Return at most MAX_IMAGES images and labels, evenly spaced over all `num_images`."""
    step = max(1, -(-num_images // MAX_IMAGES))
    images, labels, start = [], [], 0
    for some_images, some_labels in chunks:
        rows = np.arange(-start % step, len(some_labels), step)
        images.append(some_images[rows])
        labels.append(some_labels[rows])
        start += len(some_labels)
    return np.concatenate(images), np.concatenate(labels)


def _centered(images: Images, center: Center, shapes: Sequence[ImageShape]) -> list[Images]:
    """Center each image in a field of each shape; one without anything to center becomes blank."""
    fields: list[Images] = [np.zeros((len(images), *shape), np.uint8) for shape in shapes]
    for row, image in enumerate(images):
        with contextlib.suppress(DataError):
            for field, seen in zip(fields, center(image, shapes), strict=True):
                field[row] = seen
    return fields


def _share(images: Images, labels: Labels, means: Images) -> float:
    return float((nearest_classes(images, means) == labels).mean())
