"""Labeling any number of a user's own images with the champion, as a stream."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from digits.errors import DataError
from digits.labeling.centering import center
from digits.labeling.image_files import Grey, read_grey
from digits.registry.champion import Champion
from digits.spec import ImageShape
from digits.training.scoring import BATCH_SIZE


@dataclass(frozen=True)
class Picture:
    """An image as the model sees it, uint8 (H, W), and, if kept, the gray original (h, w)."""

    file: str
    seen: Grey
    original: Grey | None = None


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
    def probability(self) -> float:
        """The model's probability of the label."""
        return float(self.probabilities[self.label])


Answer = Labeled | Refused


def label_files(
    files: Iterable[str],
    champion: Champion,
    *,
    as_is: bool | None = None,
    keep_originals: bool = False,
) -> Iterator[Answer]:
    """Yield each file's label, or why it has none, in the order of the files.

    Files are read as answers are consumed: a million of them take no more memory than a few
    minibatches. `as_is`: whether the images already have the dataset's form, so that they are not
    centered and scaled (default: what the dataset spec says).
    """
    as_is = not champion.is_centered if as_is is None else as_is
    shape, names = champion.layout.image_shape, champion.layout.class_names
    pictures = (_prepared(file, shape, as_is=as_is, keep_original=keep_originals) for file in files)
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
    file: str, shape: ImageShape, *, as_is: bool, keep_original: bool
) -> Picture | Refused:
    try:
        grey = read_grey(file)
        seen = _checked(grey, shape) if as_is else center(grey, shape)
    except DataError as error:
        return Refused(file, str(error))
    return Picture(file, seen, grey if keep_original else None)


def _checked(grey: Grey, shape: ImageShape) -> Grey:
    if grey.shape != shape:
        found, expected = ("x".join(map(str, size)) for size in (grey.shape, shape))
        raise DataError(
            f"has {found} pixels, but is labeled as it is (expected {expected}); --center centers "
            "and scales it first"
        )
    return grey


def _stacked(batch: list[Picture | Refused], shape: ImageShape) -> Grey:
    seen = [item.seen for item in batch if isinstance(item, Picture)]
    return np.stack(seen) if seen else np.empty((0, *shape), np.uint8)
