"""Evaluating a trained model on the test set."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from digits.errors import DamagedError
from digits.spec import Layout
from digits.training.arrays import StoredArray
from digits.training.devices import TRACING
from digits.training.predictions import write_predictions

Array = npt.NDArray[Any]
# A multiple of four, since an image's position in the test set determines its shift direction.
BATCH_SIZE = 1000
MAX_SHIFT = 6
MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
# One direction for each quarter of the images: (rows down, columns right) for one pixel.
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def load_model(path: Path) -> keras.Model:
    """Load a model from a .keras archive in Keras's safe mode: no code in the archive is run.

    Raises DamagedError if that fails.
    """
    try:
        _check_members(path)
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except Exception as error:
        # The zip, the JSON, the HDF5 and each layer raise their own errors, some with many lines.
        problem = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedError(
            f"{path} is not a model that Keras can load safely: {problem}"
        ) from error


def _check_members(path: Path) -> None:
    """Reject archives that Keras would unpack to disk, or whose contents exceed the file's size."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sorted(member.filename for member in members) != MEMBERS:
        raise ValueError(f"its files do not match (expected {', '.join(MEMBERS)})")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its files are compressed (expected uncompressed, as Keras writes them)")


def evaluate_model(model_path: Path, arrays: Path, layout: Layout, output: Path) -> dict[str, Any]:
    """Evaluate the model at `model_path` on x_test.npy and y_test.npy in `arrays`.

    Writes metrics.json and predictions.parquet into `output`; returns the metrics.
    """
    x_test = StoredArray(arrays / "x_test.npy")
    y_test = np.load(arrays / "y_test.npy", allow_pickle=False)
    with TRACING:
        model = load_model(model_path)
        probabilities = np.concatenate([predict(model, part) for part in x_test.parts(BATCH_SIZE)])
        shifts = list(accuracy_against_shift(model, x_test.parts(BATCH_SIZE), y_test))
    y_predicted = probabilities.argmax(axis=1).astype(np.int32)
    num_correct = int((y_predicted == y_test).sum())
    accuracy = num_correct / len(y_test)
    confusion = confusion_matrix(y_test, y_predicted, layout.num_classes)
    metrics = {
        "model": model.name,
        "num_parameters": model.count_params(),
        "num_images": len(y_test),
        "num_correct": num_correct,
        "accuracy": accuracy,
        "interval": accuracy_interval(num_correct, len(y_test)),
        "loss": cross_entropy(y_test, probabilities),
        "classes": class_scores(confusion, layout.class_names),
        "confusion": confusion.tolist(),
        "shift": [
            {"pixels": 0, "accuracy": accuracy},
            *shifts,
        ],
    }
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    write_predictions(output / "predictions.parquet", y_test, y_predicted, probabilities)
    return metrics


def predict(model: keras.Model, images: Array) -> npt.NDArray[np.float32]:
    """Return class probabilities float32 (N, K) of images float32 (N, H, W, 1) in 0..1."""
    starts = range(0, len(images), BATCH_SIZE)
    parts = [model.predict_on_batch(images[start : start + BATCH_SIZE]) for start in starts]
    return np.concatenate(parts).astype(np.float32)


def accuracy_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a proportion (Wilson, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(num_correct, num_images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def cross_entropy(y_true: Array, probabilities: Array) -> float:
    """Return the mean categorical cross-entropy in nats, clipped at 1e-7 as in Keras."""
    of_truth = probabilities[np.arange(len(y_true)), y_true].astype(np.float64)
    return float(-np.log(np.clip(of_truth, 1e-7, 1.0)).mean())


def confusion_matrix(y_true: Array, y_predicted: Array, num_classes: int) -> npt.NDArray[np.int64]:
    """Return counts (K, K): rows are the true classes, columns the predicted ones."""
    pairs = y_true.astype(np.int64) * num_classes + y_predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(confusion: Array, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return precision, recall and support of each class; 0 if the denominator is 0."""
    correct, predicted, support = np.diag(confusion), confusion.sum(0), confusion.sum(1)
    return [
        {
            "label": label,
            "name": name,
            "precision": float(correct[label] / max(predicted[label], 1)),
            "recall": float(correct[label] / max(support[label], 1)),
            "support": int(support[label]),
        }
        for label, name in enumerate(names)
    ]


def accuracy_against_shift(
    model: keras.Model, parts: Iterable[Array], y_true: Array
) -> list[dict[str, Any]]:
    """Return the accuracy on images shifted by 1 to 6 pixels, a quarter of them in each direction.

    `parts` are the images in order; the length of each part but the last is a multiple of four.
    """
    num_correct, start = dict.fromkeys(range(1, MAX_SHIFT + 1), 0), 0
    for images in parts:
        y_part = y_true[start : start + len(images)]
        start += len(images)
        for pixels in num_correct:
            y_predicted = predict(model, shifted(images, pixels)).argmax(axis=1)
            num_correct[pixels] += int((y_predicted == y_part).sum())
    return [
        {"pixels": pixels, "accuracy": number / len(y_true)}
        for pixels, number in num_correct.items()
    ]


def shifted(images: Array, pixels: int) -> Array:
    """Shift image n of (N, H, W, 1) by `pixels` in direction n modulo 4; zeros move in."""
    moved = np.zeros_like(images)
    height, width = images.shape[1:3]
    for quarter, (down, right) in enumerate(DIRECTIONS):
        rows, columns = down * pixels, right * pixels
        source = images[
            quarter::4,
            max(-rows, 0) : height - max(rows, 0),
            max(-columns, 0) : width - max(columns, 0),
        ]
        moved[
            quarter::4,
            max(rows, 0) : height - max(-rows, 0),
            max(columns, 0) : width - max(-columns, 0),
        ] = source
    return moved
