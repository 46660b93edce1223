import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_digits

from digits.datasets.splits import is_test

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.just(8), st.just(8)))
SHARES = st.floats(0.01, 0.99)


@given(IMAGES, IMAGES, SHARES, st.randoms(use_true_random=False))
def test_an_image_never_moves_as_the_data_grows(
    images: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8], share: float, chance: object
) -> None:
    before = is_test(images, share)
    grown = np.concatenate([others, images])
    order = np.arange(len(grown))
    chance.shuffle(order)  # type: ignore[attr-defined]

    after = np.empty(len(grown), bool)
    after[order] = is_test(grown[order], share)

    np.testing.assert_array_equal(after[len(others) :], before)


@given(IMAGES, SHARES)
def test_equal_images_are_in_the_same_split(images: npt.NDArray[np.uint8], share: float) -> None:
    twice = is_test(np.concatenate([images, images[::-1]]), share)

    np.testing.assert_array_equal(twice[: len(images)], twice[len(images) :][::-1])


@given(IMAGES, SHARES, SHARES)
def test_a_larger_share_removes_no_image_from_the_test_split(
    images: npt.NDArray[np.uint8], one: float, other: float
) -> None:
    low, high = sorted((one, other))

    assert not (is_test(images, low) & ~is_test(images, high)).any()


@pytest.mark.parametrize("share", [0.1, 1 / 7, 0.5])
def test_the_test_share_holds_in_each_class_of_real_images(
    share: float,
) -> None:
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)

    test = is_test(images, share)

    # Four standard errors of a random split: one class in 16,000 is further off.
    for label in range(10):
        of_class = test[digits.target == label]
        assert abs(of_class.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(of_class))


def test_the_split_is_the_same_on_every_machine_and_in_every_release() -> None:
    images = (np.arange(20 * 64) % 251).astype(np.uint8).reshape(20, 8, 8)

    assert "".join(str(int(one)) for one in is_test(images, 0.5)) == "11101101100000010011"
