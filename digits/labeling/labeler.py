"""Labeling any number of a user's own images with the champion, as a stream."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from digits.labeling.image_files import Grey, read_image
from digits.labeling.pictures import Picture, Refused, prepare, way_of_seeing
from digits.registry.champion import Champion
from digits.spec import ImageShape
from digits.training.scoring import BATCH_SIZE


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
    shape, names = champion.layout.image_shape, champion.layout.class_names
    see = way_of_seeing(as_is=as_is, each=each, is_centered=champion.is_centered)
    pictures = (
        picture
        for file in files
        for picture in prepare(
            file, partial(read_image, file), shape, see, keep_original=keep_originals
        )
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


def _stacked(batch: list[Picture | Refused], shape: ImageShape) -> Grey:
    seen = [item.seen for item in batch if isinstance(item, Picture)]
    return np.stack(seen) if seen else np.empty((0, *shape), np.uint8)
