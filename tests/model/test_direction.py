"""Directional expectations: removing from a digit or adding to it shifts the answer accordingly."""

import numpy as np

from digits.training.evaluation import shifted
from tests.model.changes import faded, noisy
from tests.model.conftest import Examinee


def test_confidence_falls_as_strokes_fade(examinee: Examinee) -> None:
    beliefs = [examinee.belief(faded(examinee.images, share)) for share in (1, 0.7, 0.5, 0.3, 0.1)]

    assert beliefs == sorted(beliefs, reverse=True)


def test_confidence_falls_as_noise_grows(examinee: Examinee) -> None:
    beliefs = [examinee.belief(noisy(examinee.images, deviation)) for deviation in (0, 0.2, 0.5, 1)]

    assert beliefs == sorted(beliefs, reverse=True)


def test_two_overlaid_digits_are_mostly_labeled_as_one_of_them(examinee: Examinee) -> None:
    others = np.random.default_rng(0).permutation(len(examinee.images))
    both = (examinee.images + examinee.images[others]) / 2

    first, second = examinee.labels, examinee.labels[others]
    answers = examinee.answers(both)
    is_either = (answers == first) | (answers == second)
    assert is_either[first != second].mean() > 0.9


def test_erasing_half_a_digit_lowers_confidence(examinee: Examinee) -> None:
    half = examinee.images.copy()
    half[:, half.shape[1] // 2 :] = 0

    assert examinee.belief(half) < examinee.belief(examinee.images)


def test_the_cnn_tolerates_a_shift_that_the_mlp_does_not(examinees: dict[str, Examinee]) -> None:
    # The MLP's weights are tied to positions, while the CNN's pooling spans two pixels. Strokes are
    # one pixel wide here, so a shift leaves the MLP nothing.
    accuracies = {
        name: examinee.accuracy(shifted(examinee.images, 1)) for name, examinee in examinees.items()
    }

    assert accuracies["cnn"] > 0.5 > accuracies["mlp"]
