"""Minimum functionality: the least that any model must be able to do."""

import numpy as np

from tests.model.conftest import Examinee
from tests.support.trainings import Arrays


def test_every_class_is_recognized(examinee: Examinee) -> None:
    answers = examinee.answers(examinee.images)

    # An image differs from its class's pattern in a twentieth of the pixels, two patterns differ in
    # over a quarter, so mistakes should be rare.
    for label in np.unique(examinee.labels):
        assert (answers[examinee.labels == label] == label).mean() >= 0.9


def test_the_mean_image_of_a_class_is_labeled_as_that_class(
    examinee: Examinee, small_arrays: Arrays
) -> None:
    x_train, y_train = (np.load(small_arrays.folder / f"{name}_train.npy") for name in "xy")
    means = np.stack([x_train[y_train == label].mean(axis=0) for label in range(10)])

    assert examinee.answers(means).tolist() == list(range(10))


def test_answers_are_probabilities(examinee: Examinee) -> None:
    probabilities = examinee.probabilities(examinee.images)

    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_a_blank_image_gets_no_confident_answer(examinee: Examinee) -> None:
    blank = np.zeros_like(examinee.images[:1])

    # Nothing indicates any class, so none should get a majority.
    assert examinee.probabilities(blank).max() < 0.5


def test_a_model_is_more_confident_on_known_images_than_on_noise(examinee: Examinee) -> None:
    noise = np.random.default_rng(0).random(examinee.images.shape, np.float32)

    known, unknown = (
        examinee.probabilities(images).max(axis=1).mean() for images in (examinee.images, noise)
    )
    assert unknown < known
