import json
import math
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
from scipy import ndimage

from digits.training.evaluation import (
    MAX_SHIFT,
    accuracy_against_shift,
    accuracy_interval,
    class_scores,
    confusion_matrix,
    cross_entropy,
    evaluate_model,
    predict,
    shifted,
)
from digits.training.predictions import read_predictions
from tests.support.small_dataset import small_layout
from tests.support.trainings import Arrays, Training

NUM_CLASSES = 5


@pytest.fixture
def labels() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """True and predicted labels of five classes: 2 never occurs, and 4 is never predicted."""
    rng = np.random.default_rng(5)
    y_true = rng.choice([0, 1, 3, 4], 200).astype(np.int32)
    y_predicted = np.where(rng.random(200) < 0.6, y_true, rng.integers(4, size=200))
    y_predicted[y_predicted == 4] = 2
    return y_true, y_predicted.astype(np.int32)


def test_confusion_counts_true_classes_in_rows() -> None:
    y_true = np.array([0, 0, 0, 1, 2], np.int32)
    y_predicted = np.array([0, 1, 1, 1, 0], np.int32)

    assert confusion_matrix(y_true, y_predicted, 3).tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]


def test_confusion_matches_scikit_learn(
    labels: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
) -> None:
    expected = sklearn.metrics.confusion_matrix(*labels, labels=range(NUM_CLASSES))

    assert (confusion_matrix(*labels, NUM_CLASSES) == expected).all()


def test_confusion_does_not_overflow_small_labels() -> None:
    y = np.full(3, 255, np.uint8)

    assert confusion_matrix(y, y.astype(np.int32), 256)[255, 255] == 3


def test_precision_and_recall_match_scikit_learn(
    labels: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
) -> None:
    expected = sklearn.metrics.precision_recall_fscore_support(
        *labels, labels=range(NUM_CLASSES), zero_division=0
    )

    scores = class_scores(confusion_matrix(*labels, NUM_CLASSES), ("a", "b", "c", "d", "e"))

    assert [(score["label"], score["name"]) for score in scores] == list(enumerate("abcde"))
    for name, values in zip(("precision", "recall", "", "support"), expected, strict=True):
        if name:
            np.testing.assert_allclose([score[name] for score in scores], values)
    assert scores[2]["support"] == scores[2]["recall"] == scores[4]["precision"] == 0


@pytest.mark.parametrize(
    ("num_correct", "num_images", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_matches_published_values(
    num_correct: int, num_images: int, low: float, high: float
) -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert accuracy_interval(num_correct, num_images) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_perfect_score_ends_at_one() -> None:
    low, high = accuracy_interval(20, 20)

    assert (low, high) == pytest.approx((1 - 0.1611, 1), abs=5e-5)
    assert high <= 1


def test_cross_entropy_is_the_mean_negative_log_probability() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], np.float32)

    loss = cross_entropy(np.array([0, 1], np.int32), probabilities)

    assert loss == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_cross_entropy_matches_keras_and_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(NUM_CLASSES), 300).astype(np.float32)
    y_true = rng.integers(NUM_CLASSES, size=300)

    loss = cross_entropy(y_true, probabilities)

    # Both compute in float32.
    of_keras = keras.losses.sparse_categorical_crossentropy(y_true, probabilities)
    assert loss == pytest.approx(float(np.mean(of_keras)), rel=1e-5)
    assert loss == pytest.approx(sklearn.metrics.log_loss(y_true, probabilities), rel=1e-5)


def test_a_confident_mistake_has_a_finite_loss() -> None:
    certain = np.array([[1, 0]], np.float32)

    assert cross_entropy(np.array([1]), certain) == pytest.approx(-math.log(1e-7))
    assert cross_entropy(np.array([0]), certain) == 0


@pytest.mark.parametrize("pixels", range(MAX_SHIFT + 1))
def test_each_quarter_of_the_images_moves_in_its_own_direction(pixels: int) -> None:
    images = np.random.default_rng(1).random((8, 9, 13, 1), np.float32)
    before = images.copy()

    moved = shifted(images, pixels)

    right, left, down, up = (0, pixels), (0, -pixels), (pixels, 0), (-pixels, 0)
    expected = [
        ndimage.shift(image[:, :, 0], direction, order=0)
        for image, direction in zip(images, [right, left, down, up] * 2, strict=True)
    ]
    assert (moved[..., 0] == np.stack(expected)).all()
    assert (images == before).all()


def test_images_as_small_as_the_shift_become_blank() -> None:
    assert not shifted(np.ones((4, 6, 6, 1), np.float32), 6).any()


def test_accuracy_against_shift_is_measured_on_the_shifted_images() -> None:
    # This model predicts the position of the one lit pixel.
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten()])
    images = np.zeros((12, 16, 16, 1), np.float32)
    images[:, 8, 8] = 1
    three_to_the_right = np.full(12, 8 * 16 + 11)

    scores = accuracy_against_shift(model, [images[:8], images[8:]], three_to_the_right)

    assert scores == [
        {"pixels": pixels, "accuracy": 0.25 if pixels == 3 else 0.0}
        for pixels in range(1, MAX_SHIFT + 1)
    ]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_all_figures_describe_the_same_predictions(
    model: str, trained: dict[str, Training], small_arrays: Arrays, tmp_path: Path
) -> None:
    x_test, y_test = (np.load(small_arrays.folder / f"{name}_test.npy") for name in "xy")
    noise = np.random.default_rng(0).normal(0, 1, x_test.shape)
    np.save(tmp_path / "x_test.npy", (x_test + noise).astype(np.float32))
    np.save(tmp_path / "y_test.npy", y_test)

    metrics = evaluate_model(trained[model].archive, tmp_path, small_layout(), tmp_path)

    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    y_true, y_predicted = read_predictions(tmp_path / "predictions.parquet")
    assert (y_true == y_test).all()
    num_correct = int((y_true == y_predicted).sum())
    assert 20 < num_correct < 200
    assert metrics["model"] == model
    assert metrics["num_correct"] == num_correct
    assert metrics["num_images"] == 200
    assert metrics["accuracy"] == num_correct / 200
    assert metrics["interval"] == accuracy_interval(num_correct, 200)
    assert metrics["confusion"] == confusion_matrix(y_true, y_predicted, 10).tolist()
    assert metrics["classes"] == class_scores(
        np.array(metrics["confusion"]), small_layout().class_names
    )
    assert [score["pixels"] for score in metrics["shift"]] == list(range(MAX_SHIFT + 1))
    assert metrics["shift"][0]["accuracy"] == metrics["accuracy"]


def test_evaluation_matches_the_last_epoch_of_training(
    trained: dict[str, Training], small_arrays: Arrays, tmp_path: Path
) -> None:
    for training in trained.values():
        folder = small_arrays.folder
        metrics = evaluate_model(training.archive, folder, small_layout(), tmp_path)

        last = training.curve[-1]
        assert metrics["accuracy"] == pytest.approx(last["val_accuracy"])
        # Keras sums in float32.
        assert metrics["loss"] == pytest.approx(last["val_loss"], rel=1e-4)


def test_evaluating_again_produces_the_same_bytes(
    trained: dict[str, Training], small_arrays: Arrays, tmp_path: Path
) -> None:
    outputs = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        evaluate_model(trained["cnn"].archive, small_arrays.folder, small_layout(), folder)
        outputs.append({path.name: path.read_bytes() for path in folder.iterdir()})

    assert outputs[0].keys() == {"metrics.json", "predictions.parquet"}
    assert outputs[0] == outputs[1]


def test_predictions_do_not_depend_on_the_other_images(
    trained: dict[str, Training], small_arrays: Arrays
) -> None:
    model = keras.saving.load_model(trained["cnn"].archive)
    x_test = np.load(small_arrays.folder / "x_test.npy")

    together, alone = predict(model, x_test), predict(model, x_test[7:8])

    assert together.shape == (200, 10)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together[7:8], alone, atol=1e-6)
