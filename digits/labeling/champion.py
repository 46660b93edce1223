"""Label images from Python: notebooks, batch jobs, other programs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from digits.errors import DataError, UsageError
from digits.inference.loaded_versions import load_version
from digits.labeling.labeler import Prediction, Source, label_images
from digits.labeling.pictures import Refused
from digits.storage.workspace import current_workspace


class Champion:
    """The champion of a dataset, or another version of it, ready to label images.

    It is read and verified once, from the current workspace: a later promotion does not change it.
    Several threads may use it at once. It needs neither Keras nor TensorFlow.
    """

    def __init__(self, dataset: str = "mnist", *, version: int | None = None) -> None:
        """Load a version, by default the champion.

        Raises UsageError if there is none, NoOnnxFormError if an earlier release of digits promoted
        it, and DamagedError if it is corrupted.
        """
        self._loaded = load_version(dataset, current_workspace(), version)

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return self._loaded.dataset

    @property
    def version(self) -> int:
        """The number of the model version, as in `digits history`."""
        return self._loaded.number

    @property
    def digest(self) -> str:
        """The SHA-256 that identifies the model, as in `digits status`."""
        return self._loaded.digest

    @property
    def model(self) -> str:
        """The name of the model, such as "cnn"."""
        return self._loaded.model.name

    @property
    def accuracy(self) -> float:
        """The share of test images that it labels correctly."""
        return self._loaded.model.accuracy

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self._loaded.layout.class_names

    def __repr__(self) -> str:
        return (
            f"<Champion {self.dataset} version {self.version}: {self.model}, "
            f"test accuracy {self.accuracy:.2%}>"
        )

    def predict(
        self,
        images: Source | Iterable[Source],
        *,
        as_is: bool | None = None,
        each: bool = False,
    ) -> list[Prediction]:
        """Label one image or several; `digits predict` gives the same labels.

        An image is a path, the content of a PNG, JPEG, WebP, BMP, TIFF or GIF file, a PIL image, or
        a gray array uint8 (h, w); arrays (n, h, w) are n images. `as_is`: whether they already look
        like the dataset's images, so that they are not centered and scaled (default: what the
        dataset's spec says). `each`: cut out and label every digit of a picture; `part` then
        numbers those of one image. Raises DataError for the first image that has no label, and
        UsageError for what is not an image.
        """
        if as_is and each:
            raise UsageError("as_is and each exclude each other: images as they are are whole")
        predictions = []
        for answer in label_images(_named(images), self._loaded, as_is=as_is, each=each):
            if isinstance(answer, Refused):
                raise DataError(f"{answer.file} {answer.error}")
            predictions.append(answer)
        return predictions


def _named(images: Source | Iterable[Source]) -> Iterator[tuple[str, Source]]:
    """Yield each image with its path or, if it has none, its number from 1."""
    for number, image in enumerate(_listed(images), 1):
        if isinstance(image, str | Path):
            yield str(image), Path(image)
        else:
            yield f"image {number}", _checked(image, number)


def _listed(images: Any) -> Iterable[Any]:
    if isinstance(images, np.ndarray):
        return images if images.ndim == 3 else [images]
    is_one = isinstance(images, str | Path | bytes | Image.Image)
    return images if isinstance(images, Iterable) and not is_one else [images]


def _checked(image: object, number: int) -> Source:
    if isinstance(image, np.ndarray) and (image.ndim != 2 or image.dtype != np.uint8):
        raise UsageError(
            f"image {number} is an array of {image.dtype} {image.shape} (expected gray uint8 "
            "(h, w), or (n, h, w) for n images)"
        )
    if not isinstance(image, bytes | Image.Image | np.ndarray):
        raise UsageError(
            f"image {number} is a {type(image).__name__} (expected a path, bytes, a PIL image or "
            "a numpy array)"
        )
    return image
