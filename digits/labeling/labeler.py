"""Labeling any number of a user's own images with the champion, as a stream."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from digits.errors import DataError
from digits.labeling.centering import Centered, center, center_each
from digits.labeling.image_files import Grey, read_image
from digits.registry.champion import Champion
from digits.spec import ImageShape
from digits.training.scoring import BATCH_SIZE


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
    """A file that could not be labeled, and why."""

    file: str
    error: str


@dataclass(frozen=True)
class Labeled:
    """An image with its label, a class index, and every class's probability, float32 (K,)."""

    picture: Picture
    label: int
    name: str
    probabilities: npt.NDArray[np.float32]

    @property
    def file(self) -> str:
        """The file that the image came from."""
        return self.picture.file

    @property
    def note(self) -> str | None:
        """What is unusual about the picture, so that its label may be wrong."""
        return self.picture.note

    @property
    def probability(self) -> float:
        """The model's probability of the label."""
        return float(self.probabilities[self.label])


Answer = Labeled | Refused
See = Callable[[Grey, ImageShape], list[Centered]]
"""Finds what the model is to see in a gray image (h, w): one field (H, W) per digit."""


def label_files(
    files: Iterable[str],
    champion: Champion,
    *,
    as_is: bool | None = None,
    each: bool = False,
    keep_originals: bool = False,
) -> Iterator[Answer]:
    """Yield each file's label, or why it has none, in the order of the files.

    Files are read as answers are consumed: a million of them take no more memory than a few
    minibatches. `as_is`: whether the images already have the dataset's form, so that they are not
    centered and scaled (default: what the dataset spec says). `each`: cut out and label every digit
    of a picture, in reading order.
    """
    as_is = not (champion.is_centered or each) if as_is is None else as_is
    shape, names = champion.layout.image_shape, champion.layout.class_names
    see = _as_they_are if as_is else center_each if each else _as_one
    pictures = (
        picture
        for file in files
        for picture in _prepared(file, shape, see, keep_original=keep_originals)
    )
    batches = iter(lambda: list(islice(pictures, BATCH_SIZE)), [])
    for batch, scores in champion.scorer.score_each(batches, lambda b: _stacked(b, shape)):
        rows = iter(scores)
        for item in batch:
            if isinstance(item, Refused):
                yield item
                continue
            probabilities = next(rows)
            label = int(probabilities.argmax())
            yield Labeled(item, label, names[label], probabilities)


def _prepared(
    file: str, shape: ImageShape, see: See, *, keep_original: bool
) -> list[Picture | Refused]:
    try:
        image = read_image(file)
        found = see(image.grey, shape)
    except DataError as error:
        return [Refused(file, str(error))]
    frames = f"first of {image.num_frames} images in the file" if image.num_frames > 1 else None
    original = image.grey if keep_original else None
    return [
        Picture(file, seen, original, "; ".join(filter(None, (note, frames))) or None, part)
        for part, (seen, note) in enumerate(found, 1)
    ]


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
