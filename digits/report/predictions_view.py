"""A model's predictions on the test images, and the ones that the report shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import DamagedError
from digits.report.svg import image_uri
from digits.training.predictions import read_predictions

Array = npt.NDArray[Any]
COLUMNS = ("label", "predicted", "probability")


@dataclass(frozen=True)
class Answer:
    """One test image as a data URI, its true class and the model's prediction."""

    index: int
    image: str
    true: str
    predicted: str
    probability: float
    is_right: bool


class Answers:
    """One model's predictions for all test images.

    `x_test` has shape (N, H, W) or (N, H, W, 1), uint8 or float in 0..1; only images that are
    shown are read. Raises DamagedError if `path` is unreadable or does not match these images.
    """

    def __init__(
        self, path: Path, x_test: Array, y_test: Array, class_names: tuple[str, ...]
    ) -> None:
        self._images, self._names = x_test, class_names
        self.true, self.predicted, self._probability = read_predictions(path, COLUMNS)
        if not np.array_equal(self.true, y_test):
            raise DamagedError(f"{path}: labels do not match the {len(y_test)} test images")
        unknown = ~np.isin(self.predicted, range(len(class_names)))
        if unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            raise DamagedError(
                f"{path} row {first}: unknown predicted class {self.predicted[first]} (expected 0 "
                f"to {len(class_names) - 1})"
            )
        self.is_right: npt.NDArray[np.bool_] = self.true == self.predicted

    def first(self, number: int) -> list[Answer]:
        """Predictions for the first images."""
        return self._select(range(min(number, len(self.true))))

    def worst(self, number: int) -> list[Answer]:
        """Wrong predictions, most confident first."""
        wrong = np.flatnonzero(~self.is_right)
        order = np.argsort(-self._probability[wrong], kind="stable")
        return self._select(wrong[order[:number]])

    def _select(self, indices: Iterable[int]) -> list[Answer]:
        shape = self._images.shape[1:3]
        return [
            Answer(
                index=int(index),
                image=image_uri(np.asarray(self._images[index]).reshape(shape)),
                true=self._names[self.true[index]],
                predicted=self._names[self.predicted[index]],
                probability=float(self._probability[index]),
                is_right=bool(self.is_right[index]),
            )
            for index in indices
        ]
