"""Labeling any number of a user's own pictures with a model version, as a stream."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from digits.inference.loaded_versions import LoadedVersion
from digits.labeling.image_files import (
    Grey,
    GreyImage,
    decode_image,
    read_image,
    reduced,
    to_grey,
)
from digits.labeling.pictures import Picture, Refused, prepare, way_of_seeing
from digits.spec import ImageShape

# So few that what a layer computes is still in the processor's cache when the next one reads it:
# with 128, the CNN takes a seventh longer (benchmarks/scoring.md).
BATCH_SIZE = 32

Source = str | Path | bytes | Image.Image | Grey
"""A picture: a file ("-" is stdin), a file's content, an image, or gray uint8 (h, w)."""


@dataclass(frozen=True)
class Prediction:
    """A picture with its label, a class index, and every class's probability, float32 (K,)."""

    picture: Picture
    label: int
    name: str
    probabilities: npt.NDArray[np.float32]

    @property
    def file(self) -> str:
        """The file that the picture came from, or the name that it was given."""
        return self.picture.file

    @property
    def part(self) -> int:
        """Which digit of its picture it is, from 1, in reading order."""
        return self.picture.part

    @property
    def seen(self) -> Grey:
        """The picture as the model saw it, uint8 (H, W)."""
        return self.picture.seen

    @property
    def note(self) -> str | None:
        """What is unusual about the picture, so that its label may be wrong."""
        return self.picture.note

    @property
    def probability(self) -> float:
        """The model's probability of the label."""
        return float(self.probabilities[self.label])


Answer = Prediction | Refused


def label_files(
    files: Iterable[str],
    version: LoadedVersion,
    *,
    as_is: bool | None = None,
    each: bool = False,
    keep_originals: bool = False,
) -> Iterator[Answer]:
    """Yield each file's label, or why it has none, like label_images."""
    named = ((file, file) for file in files)
    return label_images(named, version, as_is=as_is, each=each, keep_originals=keep_originals)


def label_images(
    named: Iterable[tuple[str, Source]],
    version: LoadedVersion,
    *,
    as_is: bool | None = None,
    each: bool = False,
    keep_originals: bool = False,
) -> Iterator[Answer]:
    """Yield the label of each named picture, or why it has none, in the order of the pictures.

    Pictures are read as answers are consumed: a million of them take no more memory than a few
    minibatches. `as_is`: whether the images already have the dataset's form, so that they are not
    centered and scaled (default: what the dataset spec says). `each`: cut out and label every digit
    of a picture, in reading order.
    """
    shape, names = version.layout.image_shape, version.layout.class_names
    see = way_of_seeing(as_is=as_is, each=each, is_centered=version.is_centered)
    pictures = (
        picture
        for name, source in named
        for picture in prepare(
            name, partial(_grey, source), shape, see, keep_original=keep_originals
        )
    )
    while batch := list(islice(pictures, BATCH_SIZE)):
        rows = iter(version.model.predict(_stacked(batch, shape)))
        for item in batch:
            if isinstance(item, Refused):
                yield item
                continue
            probabilities = next(rows)
            label = int(probabilities.argmax())
            yield Prediction(item, label, names[label], probabilities)


def _grey(source: Source) -> GreyImage:
    if isinstance(source, bytes):
        return decode_image(source)
    if isinstance(source, Image.Image):
        return GreyImage(reduced(to_grey(source)), 1)
    if isinstance(source, np.ndarray):
        return GreyImage(reduced(source), 1)
    return read_image(source)


def _stacked(batch: list[Picture | Refused], shape: ImageShape) -> Grey:
    seen = [item.seen for item in batch if isinstance(item, Picture)]
    return np.stack(seen) if seen else np.empty((0, *shape), np.uint8)
