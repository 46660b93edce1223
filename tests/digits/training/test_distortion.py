from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from digits.models import Distortion
from digits.training.distortion import GROUP, distort

Array = npt.NDArray[Any]


def blobs(num: int, shape: tuple[int, int] = (12, 16)) -> Array:
    """Smooth random images with an empty margin."""
    noise = np.random.default_rng(3).random((num, *shape), np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    smooth[:, :3] = smooth[:, -3:] = smooth[:, :, :3] = smooth[:, :, -3:] = 0
    return smooth


def distorted(images: Array, seed: int = 0, **settings: float) -> Array:
    return distort(images, Distortion.model_validate(settings), np.random.default_rng(seed))


@pytest.mark.parametrize("num_images", [1, 31, 100])
def test_without_distortions_images_do_not_change(num_images: int) -> None:
    images = blobs(num_images)

    unchanged = distorted(images)

    assert (unchanged.shape, unchanged.dtype) == (images.shape, np.float32)
    np.testing.assert_allclose(unchanged, images, atol=1e-5)


def test_images_are_shifted_as_by_scipy() -> None:
    images, limit = blobs(GROUP), 2.5

    moved = distorted(images, translation=limit)

    # The images of a group share one distortion: the shift that fits one fits all.
    rows, columns = np.meshgrid(*[np.arange(-limit, limit, 0.1)] * 2)
    errors = [
        np.abs(ndimage.shift(images[0], shift, order=1) - moved[0]).max()
        for shift in zip(rows.ravel(), columns.ravel(), strict=True)
    ]
    best = int(np.argmin(errors))
    down, right = rows.ravel()[best], columns.ravel()[best]
    assert np.hypot(down, right) > 0.2
    shift = (0, down, right)
    np.testing.assert_allclose(ndimage.shift(images, shift, order=1), moved, atol=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"rotation": 20},
        {"scaling": 0.2},
        {"shear": 0.3},
        {"translation": 2},
        {"elastic": 1, "smoothness": 3},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_distortion_changes_images_and_keeps_their_ink(settings: dict[str, float]) -> None:
    images = blobs(200, (28, 28))

    changed = distorted(images, **settings)

    assert (np.abs(changed - images).max(axis=(1, 2)) > 0.01).all()
    assert changed.min() >= 0
    assert changed.max() <= images.max() + 1e-5
    assert changed.sum() == pytest.approx(images.sum(), rel=0.1)


def test_randomness_comes_only_from_the_generator() -> None:
    images = blobs(70)
    settings = {"rotation": 10, "elastic": 1.0}

    first, again, other = (distorted(images, seed, **settings) for seed in (1, 1, 2))

    assert (first == again).all()
    assert (first != other).any()


def test_neighboring_images_get_different_distortions() -> None:
    # Equal neighbors become different; equal images that share a distortion stay equal.
    images = np.repeat(blobs(1), 4 * GROUP, axis=0)

    changed = distorted(images, rotation=20, translation=2)

    assert len(np.unique(changed, axis=0)) == 4
    assert len(np.unique(changed[:4], axis=0)) == 4
    assert (changed[:4] == changed[4:8]).all()


def test_displacements_are_as_large_as_the_setting_says() -> None:
    # If an image is a linear gradient, its change is the displacement.
    slope = np.broadcast_to(np.arange(28, dtype=np.float32), (GROUP * 200, 28, 28))

    moved = distorted(slope, elastic=1.2)[:200] - slope[:200]

    assert moved[:, 6:-6, 6:-6].std() == pytest.approx(1.2, rel=0.1)
    neighbors = np.corrcoef(moved[:, 14, 13].ravel(), moved[:, 14, 14].ravel())[0, 1]
    assert neighbors > 0.95
