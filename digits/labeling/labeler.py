"""Labeling any number of a user's own pictures with a model version, as a stream."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from digits.errors import DataError
from digits.inference.loaded_versions import LoadedVersion
from digits.labeling.centering import Centered, center, center_each
from digits.labeling.image_files import (
    Grey,
    GreyImage,
    decode_image,
    read_image,
    reduced,
    to_grey,
)
from digits.spec import ImageShape

BATCH_SIZE = 128

Source = str | Path | bytes | Image.Image | Grey
"""A picture: a file ("-" is stdin), a file's content, an image, or gray uint8 (h, w)."""


@dataclass(frozen=True)
class Picture:
    """An image as the model sees it, uint8 (H, W), and, if kept, the gray original (h, w).

    `note` says what is unusual about it. The digits of one picture are numbered from 1.
    """

    file: str
    seen: Grey
    original: Grey | None = None
    note: str | None = None
    part: int = 1


@dataclass(frozen=True)
class Refused:
    """A picture that could not be labeled, and why."""

    file: str
    error: str


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
See = Callable[[Grey, ImageShape], list[Centered]]
"""Finds what the model is to see in a gray image (h, w): one field (H, W) per digit."""


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
    pictures = prepare_images(named, version, as_is=as_is, each=each, keep_originals=keep_originals)
    shape, names = version.layout.image_shape, version.layout.class_names
    while batch := list(islice(pictures, BATCH_SIZE)):
        rows = iter(version.model.predict(_stacked(batch, shape)))
        for item in batch:
            if isinstance(item, Refused):
                yield item
                continue
            probabilities = next(rows)
            label = int(probabilities.argmax())
            yield Prediction(item, label, names[label], probabilities)


def prepare_images(
    named: Iterable[tuple[str, Source]],
    version: LoadedVersion,
    *,
    as_is: bool | None = None,
    each: bool = False,
    keep_originals: bool = False,
) -> Iterator[Picture | Refused]:
    """Yield what the model is to see of each picture, or why it cannot; see label_images."""
    as_is = not (version.is_centered or each) if as_is is None else as_is
    see = _as_they_are if as_is else center_each if each else _as_one
    for name, source in named:
        yield from _prepared(
            name, source, version.layout.image_shape, see, keep_original=keep_originals
        )


def _prepared(
    name: str, source: Source, shape: ImageShape, see: See, *, keep_original: bool
) -> list[Picture | Refused]:
    try:
        image = _grey(source)
        found = see(image.grey, shape)
    except DataError as error:
        return [Refused(name, str(error))]
    frames = f"first of {image.num_frames} images in the file" if image.num_frames > 1 else None
    original = image.grey if keep_original else None
    return [
        Picture(name, seen, original, "; ".join(filter(None, (note, frames))) or None, part)
        for part, (seen, note) in enumerate(found, 1)
    ]


def _grey(source: Source) -> GreyImage:
    if isinstance(source, bytes):
        return decode_image(source)
    if isinstance(source, Image.Image):
        return GreyImage(reduced(to_grey(source)), 1)
    if isinstance(source, np.ndarray):
        return GreyImage(reduced(source), 1)
    return read_image(source)


def _as_one(grey: Grey, shape: ImageShape) -> list[Centered]:
    return [center(grey, shape)]


def _as_they_are(grey: Grey, shape: ImageShape) -> list[Centered]:
    if grey.shape != shape:
        found, expected = ("x".join(map(str, size)) for size in (grey.shape, shape))
        raise DataError(
            f"has {found} pixels, but is labeled as it is (expected {expected}); --center centers "
            "and scales it first"
        )
    return [Centered(grey)]


def _stacked(batch: list[Picture | Refused], shape: ImageShape) -> Grey:
    seen = [item.seen for item in batch if isinstance(item, Picture)]
    return np.stack(seen) if seen else np.empty((0, *shape), np.uint8)
