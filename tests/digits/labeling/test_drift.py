from pathlib import Path

import numpy as np
import pytest

from digits.labeling.drift import Reference, Watch, brightness, compare, reference_of
from digits.training.predictions import write_predictions
from tests.support.handwriting import make_splits

SPLITS = make_splits()
TRAINING, TEST = SPLITS["train"], SPLITS["test"]
CONFIDENCE = np.random.default_rng(0).beta(20, 1, 200).astype(np.float32)


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    probabilities = np.full((200, 10), 0.0, np.float32)
    probabilities[:, 0] = CONFIDENCE
    labels = TEST[1].astype(np.int32)
    write_predictions(tmp_path / "predictions.parquet", labels, labels, probabilities)
    batches = [(TRAINING[0][:400], TRAINING[1][:400]), (TRAINING[0][400:], TRAINING[1][400:])]
    return reference_of(batches, tmp_path / "predictions.parquet", 10)


def drifted(
    reference: Reference, images: np.ndarray, labels: np.ndarray, confidence: np.ndarray
) -> set[str]:
    watch = Watch(reference)
    # In chunks of uneven sizes, as in use.
    for part in np.array_split(np.arange(len(images)), 3):
        watch.add(images[part], labels[part], confidence[part])
    return {measure.name for measure in watch.measures() if measure.has_drifted}


def test_images_like_the_training_data_have_not_drifted(reference: Reference) -> None:
    assert drifted(reference, *TEST, CONFIDENCE) == set()


def test_darker_images_have_drifted_and_nothing_else(reference: Reference) -> None:
    images, labels = TEST

    assert drifted(reference, (images * 0.7).astype(np.uint8), labels, CONFIDENCE) == {"mean pixel"}


def test_thinner_strokes_have_drifted(reference: Reference) -> None:
    images, labels = TEST
    thin = np.where(np.arange(12) % 2, images, 0).astype(np.uint8)

    assert {"ink", "mean pixel"} <= drifted(reference, thin, labels, CONFIDENCE)


def test_another_mix_of_labels_has_drifted(reference: Reference) -> None:
    images, labels = TEST

    assert drifted(reference, images, np.where(labels < 5, 7, labels), CONFIDENCE) == {"labels"}


def test_less_confident_answers_have_drifted(reference: Reference) -> None:
    assert drifted(reference, *TEST, CONFIDENCE * 0.6) == {"confidence"}


def test_without_images_there_are_no_measures(reference: Reference) -> None:
    assert Watch(reference).measures() == ()


def test_measures_contain_the_means_of_the_images(reference: Reference) -> None:
    watch = Watch(reference)
    watch.add(*TEST, CONFIDENCE)
    measures = {measure.name: measure for measure in watch.measures()}

    assert measures["mean pixel"].found == pytest.approx(TEST[0].mean())
    assert measures["mean pixel"].expected == pytest.approx(TRAINING[0].mean())
    assert measures["ink"].found == pytest.approx((TEST[0] > 127).mean())
    assert measures["confidence"].expected == pytest.approx(CONFIDENCE.mean())
    assert watch.label_counts == tuple(np.bincount(TEST[1], minlength=10))


def test_brightness_is_measured_for_each_image() -> None:
    images = np.zeros((2, 4, 4), np.uint8)
    images[1, 0] = 200

    mean_pixel, ink = brightness(images)

    assert mean_pixel.tolist() == [0, 50]
    assert ink.tolist() == [0, 0.25]


# The limit allows one false alarm in 10,000 samples; four in 2,000 leave room for chance.
@pytest.mark.parametrize("size", [20, 200, 5000])
def test_chance_alone_hardly_ever_counts_as_drift(size: int) -> None:
    random = np.random.default_rng(size)
    shares = random.dirichlet(np.full(10, 5.0))
    expected = random.multinomial(60_000, shares)

    samples = random.multinomial(size, shares, 2000)

    alarms = sum(compare("labels", expected, sample).has_drifted for sample in samples)
    assert alarms <= 4


@pytest.mark.parametrize("size", [200, 5000])
def test_a_shift_that_matters_counts_as_drift(size: int) -> None:
    random = np.random.default_rng(size)
    shares = np.array([0.4, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])

    measure = compare("labels", np.full(10, 6000), random.multinomial(size, shares))

    assert measure.has_drifted


def test_the_index_matches_its_definition() -> None:
    measure = compare("labels", np.array([50_000, 50_000]), np.array([20_000, 80_000]))

    # (0.5 - 0.2) ln(0.5 / 0.2) + (0.5 - 0.8) ln(0.5 / 0.8)
    assert measure.index == pytest.approx(0.4159, abs=1e-3)
    assert measure.limit == 0.1
