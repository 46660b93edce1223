"""Fixtures of the behavior tests: two models trained on the small dataset, and its images."""

from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import pytest

from digits.training.evaluation import load_model, predict
from tests.support.trainings import Arrays, Training


@dataclass(frozen=True)
class Examinee:
    """A trained model and the images to test it with."""

    model: keras.Model
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]

    def probabilities(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return predict(self.model, np.ascontiguousarray(images, np.float32))

    def answers(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        return self.probabilities(images).argmax(axis=1)

    def accuracy(self, images: npt.NDArray[np.float32]) -> float:
        """Return the share of correct answers on changed images."""
        return float((self.answers(images) == self.labels).mean())

    def agreement(self, images: npt.NDArray[np.float32]) -> float:
        """Return the share of changed images with the same answer as before."""
        return float((self.answers(images) == self.answers(self.images)).mean())

    def belief(self, images: npt.NDArray[np.float32]) -> float:
        """Return the mean probability of the true class on changed images."""
        return float(self.probabilities(images)[np.arange(len(images)), self.labels].mean())


@pytest.fixture(scope="session")
def examinees(trained: dict[str, Training], small_arrays: Arrays) -> dict[str, Examinee]:
    """Both models by name, with the test images of the small dataset."""
    x_test, y_test = (np.load(small_arrays.folder / f"{name}_test.npy") for name in "xy")
    return {
        name: Examinee(load_model(training.archive), x_test, y_test)
        for name, training in trained.items()
    }


@pytest.fixture(params=["mlp", "cnn"])
def examinee(request: pytest.FixtureRequest, examinees: dict[str, Examinee]) -> Examinee:
    """Each model in turn."""
    return examinees[request.param]
