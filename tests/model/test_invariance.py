"""Invariance: changes that do not affect which digit it is do not affect the answer."""

import numpy as np
import pytest

from tests.model.changes import faded, noisy
from tests.model.conftest import Examinee


@pytest.mark.parametrize("deviation", [0.02, 0.1])
def test_slight_noise_changes_no_answer(examinee: Examinee, deviation: float) -> None:
    # Far less than the twentieth of the pixels that is inverted in each training image.
    assert examinee.agreement(noisy(examinee.images, deviation)) >= 0.99


@pytest.mark.parametrize("share", [0.9, 0.7])
def test_fainter_strokes_change_no_answer(examinee: Examinee, share: float) -> None:
    # The strokes in the training data vary from 0.7 to 1.
    assert examinee.agreement(faded(examinee.images, share)) >= 0.99


def test_one_pixel_changes_no_answer(examinee: Examinee) -> None:
    rows, columns = examinee.images.shape[1:3]
    for row, column in [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)]:
        images = examinee.images.copy()
        images[:, row, column] = 1 - images[:, row, column]

        assert examinee.agreement(images) >= 0.99


def test_the_order_of_images_changes_no_answer(examinee: Examinee) -> None:
    backwards = examinee.probabilities(examinee.images[::-1])[::-1]

    # Sums in a different order differ in the last digits.
    np.testing.assert_allclose(backwards, examinee.probabilities(examinee.images), atol=1e-6)
