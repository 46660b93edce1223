"""Direction: changes that take from a digit, or add to it, move the answer that way."""

import numpy as np

from digits.training.evaluation import shifted
from tests.model.changes import faded, noisy
from tests.model.conftest import Examinee


def test_the_fainter_the_pen_the_less_is_believed(examinee: Examinee) -> None:
    beliefs = [examinee.belief(faded(examinee.images, share)) for share in (1, 0.7, 0.5, 0.3, 0.1)]

    assert beliefs == sorted(beliefs, reverse=True)


def test_the_more_noise_the_less_is_believed(examinee: Examinee) -> None:
    beliefs = [examinee.belief(noisy(examinee.images, deviation)) for deviation in (0, 0.2, 0.5, 1)]

    assert beliefs == sorted(beliefs, reverse=True)


def test_two_digits_at_once_are_mostly_one_or_the_other(examinee: Examinee) -> None:
    others = np.random.default_rng(0).permutation(len(examinee.images))
    both = (examinee.images + examinee.images[others]) / 2

    first, second = examinee.labels, examinee.labels[others]
    answers = examinee.answers(both)
    is_either = (answers == first) | (answers == second)
    assert is_either[first != second].mean() > 0.9


def test_what_was_erased_is_no_longer_believed(examinee: Examinee) -> None:
    half = examinee.images.copy()
    half[:, half.shape[1] // 2 :] = 0

    assert examinee.belief(half) < examinee.belief(examinee.images)


def test_the_cnn_tolerates_a_shift_that_the_mlp_does_not(examinees: dict[str, Examinee]) -> None:
    # The weights of the MLP are bound to places; the CNN's pooling looks at two pixels at once. The
    # patterns have no strokes wider than a pixel, so that a shift leaves the MLP nothing.
    accuracies = {
        name: examinee.accuracy(shifted(examinee.images, 1)) for name, examinee in examinees.items()
    }

    assert accuracies["cnn"] > 0.5 > accuracies["mlp"]
