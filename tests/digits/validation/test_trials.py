"""Trials on test images: what is centered, and what is turned, and no claim without certainty."""

import gzip
from importlib.resources import files

import numpy as np
import pytest

from digits.datasets.images import Images, Labels
from digits.errors import DataError
from digits.labeling.centering import centered
from digits.settings import Settings
from digits.spec import load_spec
from digits.validation.centroids import compute_centroids, load_centroids
from digits.validation.trials import MAX_IMAGES, TURNS, Trials, sampled, try_images

Pair = tuple[Images, Labels]


@pytest.fixture(scope="module")
def handwritten() -> Pair:
    """400 of the digits that come with scikit-learn, 24x24 with a border of 4 pixels."""
    text = gzip.decompress((files("sklearn.datasets.data") / "digits.csv.gz").read_bytes())
    rows = np.loadtxt(text.decode().splitlines(), delimiter=",", dtype=int, max_rows=400)
    small = np.rint(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (4, 4), (4, 4)))
    return images, rows[:, 64].astype(np.uint16)


@pytest.fixture(scope="module")
def digit_means(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """MNIST's mean images, as they come with the project."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("none"))
    mnist = load_spec("mnist", settings)
    assert mnist.thresholds.centroids is not None
    return load_centroids(mnist.thresholds.centroids, settings.datasets_dirs, mnist.image_shape, 10)


def tried(images: Images, labels: Labels, digit_means: Images | None = None) -> Trials:
    means = compute_centroids([(images, labels)], 10)
    return try_images(images, labels, means, centered, digit_means)


# Turning by each of these, and then as TURNS says, gives the original.
OPPOSITES = {
    "rotated by 90 degrees to the left": "rotated by 90 degrees to the right",
    "rotated by 90 degrees to the right": "rotated by 90 degrees to the left",
}


@pytest.mark.parametrize("look", TURNS)
def test_turned_digits_are_recognized(look: str, handwritten: Pair, digit_means: Images) -> None:
    images, labels = handwritten
    turned = np.ascontiguousarray(TURNS[OPPOSITES.get(look, look)](images))

    assert tried(turned, labels, digit_means).look == look


@pytest.mark.slow
def test_without_certainty_nothing_is_said(handwritten: Pair, digit_means: Images) -> None:
    images, labels = handwritten
    rng = np.random.default_rng(3)

    assert tried(images, rng.permutation(labels), digit_means).look == "upright"
    noise = rng.integers(0, 256, images.shape).astype(np.uint8)
    assert tried(noise, labels, digit_means).look == "upright"
    # Other classes than the ten digits are not compared with digits.
    assert tried(images.transpose(0, 2, 1), labels).look == "upright"


def test_centered_images_are_told_from_others(handwritten: Pair) -> None:
    images, labels = handwritten
    filling = np.ascontiguousarray(images[:, 4:-4, 4:-4])
    like_mnist = np.stack([seen for image in images for seen in centered(image, [(28, 28)])])

    assert not tried(filling, labels).should_center
    assert tried(like_mnist, labels).should_center


def test_an_image_that_cannot_be_centered_counts_as_wrong(handwritten: Pair) -> None:
    images, labels = handwritten

    def refuse(_: Images, __: tuple[int, int]) -> Images:
        raise DataError("contains no digit")

    means = compute_centroids([(images, labels)], 10)
    trials = try_images(images, labels, means, refuse, None)

    # Blank images are nearest to the same mean image, so one class in ten is right.
    assert trials.centered < 0.2 < trials.as_is
    assert not trials.should_center


@pytest.mark.parametrize("num_images", [1, 399, 400, 401, 2500])
def test_samples_are_evenly_spaced_whatever_the_chunks(num_images: int) -> None:
    numbers = np.arange(num_images, dtype=np.uint16)
    chunks = [(part[:, None, None].astype(np.uint8), part) for part in np.array_split(numbers, 7)]

    images, labels = sampled(chunks, num_images)

    assert 0 < len(labels) <= MAX_IMAGES
    assert set(np.diff(labels.astype(int)).tolist()) <= {-(-num_images // MAX_IMAGES)}
    np.testing.assert_array_equal(images[:, 0, 0], labels.astype(np.uint8))
