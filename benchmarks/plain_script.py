"""The plain Keras script that a user would otherwise run: fits and evaluates the same two models.

Usage: python -m benchmarks.plain_script --raw data/raw/mnist [--epochs 10] [--seed 0]
           [--models mlp,cnn] [--stop-at 0.99]
It imports nothing from the project. The last line is JSON: test accuracies and wall seconds.
"""

import argparse
import json
import os
import time
from pathlib import Path

STARTED = time.monotonic()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402


def load(raw: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    images = np.frombuffer((raw / f"{split}-images.idx").read_bytes(), np.uint8, offset=16)
    labels = np.frombuffer((raw / f"{split}-labels.idx").read_bytes(), np.uint8, offset=8)
    x = images.reshape(-1, 28, 28, 1).astype("float32") / 255
    return x, keras.utils.to_categorical(labels, 10)


def mlp() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adamax", "categorical_crossentropy", metrics=["accuracy"])
    return model


def cnn() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Dropout(0.25),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adadelta(1.0)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


class StopAt(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops after the first epoch that reaches a test accuracy, and records the seconds taken."""

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy, self.begun = accuracy, time.monotonic()
        self.seconds: float | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
        if logs["val_accuracy"] >= self.accuracy:
            self.seconds = time.monotonic() - self.begun
            self.model.stop_training = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--stop-at", type=float)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    (x_train, y_train), (x_test, y_test) = (load(options.raw, split) for split in ("train", "test"))
    facts: dict[str, dict[str, float | None]] = {}
    for name in options.models.split(","):
        model, begun = {"mlp": mlp, "cnn": cnn}[name](), time.monotonic()
        stop = StopAt(options.stop_at or 2.0)
        model.fit(
            x_train,
            y_train,
            batch_size=128,
            epochs=options.epochs,
            verbose=2,
            validation_data=(x_test, y_test),
            callbacks=[stop] if options.stop_at else [],
        )
        _, accuracy = model.evaluate(x_test, y_test, verbose=0)
        facts[name] = {"accuracy": float(accuracy), "seconds": time.monotonic() - begun}
        if options.stop_at:
            facts[name]["seconds_to_accuracy"] = stop.seconds
    print(json.dumps({**facts, "seconds": time.monotonic() - STARTED}))


if __name__ == "__main__":
    main()
