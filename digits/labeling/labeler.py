"""Labeling a user's own pictures with the champion, one after the other, however many."""

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
    """A picture as the model sees it, uint8 (H, W), and, if kept, as it was, in grey (h, w)."""

    file: str
    seen: Grey
    original: Grey | None = None


@dataclass(frozen=True)
class Refused:
    """A file that could not be labelled, and why."""

    file: str
    error: str


@dataclass(frozen=True)
class Labeled:
    """A picture with its label, a class index, and every class's probability, float32 (K,)."""

    picture: Picture
    label: int
    name: str
    probabilities: npt.NDArray[np.float32]

    @property
    def file(self) -> str:
        """Where the picture came from."""
        return self.picture.file

    @property
    def probability(self) -> float:
        """How probable the label is, by the model."""
        return float(self.probabilities[self.label])


Answer = Labeled | Refused


def label_files(
    files: Iterable[str], champion: Champion, *, as_is: bool = False, keep_originals: bool = False
) -> Iterator[Answer]:
    """Each file's label, or why it has none, in their order.

    Files are read as the answers are asked for: a million of them take no more memory than a few
    batches. `as_is`: they are in the dataset's own form already, not to be centred and scaled.
    """
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
            f"has {found} pixels, expected {expected} of a picture that is taken as it is"
        )
    return grey


def _stacked(batch: list[Picture | Refused], shape: ImageShape) -> Grey:
    seen = [item.seen for item in batch if isinstance(item, Picture)]
    return np.stack(seen) if seen else np.empty((0, *shape), np.uint8)
