"""Trains both models with the Keras backend of this process, which a test starts."""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from digits.models import MODELS
from digits.recipes import training_settings
from digits.training.evaluation import load_model, predict
from tests.support.trainings import Interrupting, Training, prepare_arrays


def num_parameters(model: str) -> int:
    """Count a model's parameters at the reference's size, built with the largest seed."""
    settings = training_settings("reference", model, seed=2**31 - 1)
    built = MODELS[model].build((28, 28, 1), 10, settings.dropout, settings.seed)
    return int(built.count_params())


def main(root: Path) -> None:
    """Write each training's results below `root` and print the other facts as JSON.

    Each trained model's answers are in probabilities.npy, next to its results.
    """
    arrays = prepare_arrays(root)
    for model in MODELS:
        training = Training.of(arrays, root / model, model, epochs=2, batch_size=100)
        training.run()
        trained = load_model(training.archive)
        probabilities = predict(trained, np.load(arrays.folder / "x_test.npy"))
        np.save(training.folder / "probabilities.npy", probabilities)

    Training.of(arrays, root / "fast", "cnn", "fast", epochs=2, batch_size=100).run()
    Training.of(arrays, root / "best", "mlp", "best", epochs=2, batch_size=100).run()
    for name, recipe in (("resumed", "reference"), ("resumed best", "best")):
        resumed = Training.of(arrays, root / name, "mlp", recipe, epochs=2, batch_size=100)
        try:
            resumed.run(Interrupting(1))
        except KeyboardInterrupt:
            resumed.run()
    facts = {
        "backend": keras.config.backend(),
        "num_parameters": {model: num_parameters(model) for model in MODELS},
    }
    json.dump(facts, sys.stdout)
