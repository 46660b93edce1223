from typing import Any

import keras
import numpy as np
import pytest

from digits.models import MODELS, TrainingSettings
from digits.recipes import RECIPES, training_settings
from digits.training.dropout import PooledDropout
from digits.training.learner import make_learner, outcome

SHAPE, NUM_CLASSES, NUM_BATCHES = (12, 12, 1), 10, 5


def make(
    model: str = "mlp", recipe: str = "reference", **changes: Any
) -> tuple[keras.Model, keras.Model]:
    """Return a plain model and the one that is trained in its place."""
    chosen = training_settings(recipe, model).model_dump() | changes
    settings = TrainingSettings.model_validate(chosen)
    plain = MODELS[model].build(SHAPE, NUM_CLASSES, settings.dropout, settings.seed)
    return plain, make_learner(plain, settings, NUM_BATCHES)


def images(number: int = 20) -> np.ndarray:
    return np.random.default_rng(0).random((number, *SHAPE), np.float32)


def test_the_reference_model_is_trained_unchanged() -> None:
    plain, learner = make()

    assert learner is plain


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_the_layers_and_weights_of_the_plain_model(
    recipe: str, model: str
) -> None:
    plain, learner = make(model, recipe)

    assert [layer.name for layer in learner.layers] == [layer.name for layer in plain.layers]
    for weight, original in zip(learner.get_weights(), plain.get_weights(), strict=True):
        assert weight.dtype == np.float32
        assert (weight == original).all()
    assert learner.layers[-1].compute_dtype == "float32"
    # bfloat16 has eight bits.
    answers, expected = learner.predict_on_batch(images()), plain.predict_on_batch(images())
    np.testing.assert_allclose(answers, expected, atol=0.01)


def test_named_settings_change_what_they_name() -> None:
    _, learner = make("cnn", precision="mixed_bfloat16", masks="pooled")

    *hidden, last = learner.layers
    assert {layer.compute_dtype for layer in hidden} == {"bfloat16"}
    assert last.compute_dtype == "float32"
    dropouts = [layer for layer in hidden if layer.name.startswith("dropout")]
    assert len(dropouts) == 3
    assert all(isinstance(layer, PooledDropout) for layer in dropouts)


def test_the_rate_rises_to_its_peak_and_falls_to_0_along_a_cosine() -> None:
    _, learner = make(schedule="cosine", warmup=0.2, learning_rate=0.4, epochs=10)
    rate = learner.optimizer._learning_rate  # the schedule, not its value now

    rates = [float(rate(step)) for step in (0, 5, 10, 30, 50)]

    assert rates == pytest.approx([0, 0.2, 0.4, 0.2, 0], abs=1e-6)
    _, learner = make(schedule="cosine", learning_rate=0.4, epochs=10)
    assert float(learner.optimizer.learning_rate) == pytest.approx(0.4)


def test_label_smoothing_matches_keras() -> None:
    _, learner = make(label_smoothing=0.1)
    labels = np.arange(20) % 10
    probabilities = learner.predict_on_batch(images())

    loss = learner.evaluate(images(), labels, verbose=0)[0]

    one_hot = keras.utils.to_categorical(labels, 10)
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    assert loss == pytest.approx(float(smoothed(one_hot, probabilities)), rel=1e-5)


def test_the_outcome_is_averaged_and_training_continues_with_its_own_weights() -> None:
    _, learner = make(averaging=0.5)
    labels = np.arange(20) % 10
    weights = []
    for _ in range(2):
        learner.train_on_batch(images(), labels)
        weights.append(learner.get_weights())

    averaged = outcome(learner)

    for average, first, second in zip(averaged, *weights, strict=True):
        np.testing.assert_allclose(average, (first + second) / 2, atol=1e-6)
    for present, second in zip(learner.get_weights(), weights[1], strict=True):
        assert (present == second).all()
