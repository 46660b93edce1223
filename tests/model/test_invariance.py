"""Invariance: changes that leave a digit what it is leave the answer what it was."""

import numpy as np
import pytest

from tests.model.changes import faded, noisy
from tests.model.conftest import Examinee


@pytest.mark.parametrize("deviation", [0.02, 0.1])
def test_a_little_noise_changes_no_answer(examinee: Examinee, deviation: float) -> None:
    # Far less than the twentieth of the pixels that is turned over in each image.
    assert examinee.agreement(noisy(examinee.images, deviation)) >= 0.99


@pytest.mark.parametrize("share", [0.9, 0.7])
def test_a_fainter_pen_changes_no_answer(examinee: Examinee, share: float) -> None:
    # The strokes that were trained on vary from 0.7 to 1.
    assert examinee.agreement(faded(examinee.images, share)) >= 0.99


def test_one_pixel_changes_no_answer(examinee: Examinee) -> None:
    rows, columns = examinee.images.shape[1:3]
    for row, column in [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)]:
        images = examinee.images.copy()
        images[:, row, column] = 1 - images[:, row, column]

        assert examinee.agreement(images) >= 0.99


def test_the_order_of_images_changes_no_answer(examinee: Examinee) -> None:
    backwards = examinee.probabilities(examinee.images[::-1])[::-1]

    # Sums in another order differ in their last digits.
    np.testing.assert_allclose(backwards, examinee.probabilities(examinee.images), atol=1e-6)
