import keras
import numpy as np
import pytest

from digits.training.dropout import PooledDropout
from digits.training.rectified import RectifiedDropout, ScaledConvolution, rectified_dropouts

SHAPE = (12, 12, 3)
RATE = 0.25


def plain(dropout: keras.layers.Layer, has_pooling: bool) -> keras.Model:
    layers = [
        keras.Input(SHAPE),
        keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=initializer()),
        *([keras.layers.MaxPooling2D(2)] if has_pooling else []),
        dropout,
        keras.layers.Flatten(),
        keras.layers.Dense(4, kernel_initializer=initializer()),
    ]
    return keras.Sequential(layers)


def initializer() -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=1)


def merged(model: keras.Model) -> keras.Model:
    """Return the same model with ReLU and dropout as one layer, and the same masks."""

    def adapted(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.Conv2D):
            return ScaledConvolution(1 / (1 - RATE), layer.get_config())
        if isinstance(layer, PooledDropout):
            return RectifiedDropout(RATE, 5, batch_size=20)
        return type(layer).from_config(layer.get_config())

    made = keras.models.clone_model(model, clone_function=adapted)
    made.set_weights(model.get_weights())
    return made


def trained(model: keras.Model) -> list[np.ndarray]:
    """Return the weights after four steps."""
    generator = np.random.default_rng(0)
    x, y = generator.random((20, *SHAPE), np.float32), generator.integers(4, size=20)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    for _ in range(4):
        model.train_on_batch(x, y)
    return list(model.get_weights())


@pytest.mark.parametrize("has_pooling", [False, True])
def test_training_and_inference_are_those_of_separate_layers(has_pooling: bool) -> None:
    separate = plain(PooledDropout(RATE, 5, batch_size=20), has_pooling)
    one = merged(separate)
    before = separate.get_weights()

    weights, expected = trained(one), trained(separate)

    assert any(np.abs(now - then).max() > 0.01 for now, then in zip(weights, before, strict=True))
    for value, right in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-5)
    images = np.random.default_rng(1).random((5, *SHAPE), np.float32)
    np.testing.assert_allclose(
        one.predict_on_batch(images), separate.predict_on_batch(images), rtol=1e-4, atol=1e-4
    )


def test_only_a_relu_convolution_before_the_dropout_is_merged() -> None:
    model = plain(keras.layers.Dropout(RATE), has_pooling=True)
    ((convolution, dropout),) = rectified_dropouts(model).items()
    assert (convolution, dropout) == (model.layers[0], model.layers[2])

    assert not rectified_dropouts(plain(keras.layers.Dropout(0.0), has_pooling=False))
    model.layers[0].activation = keras.activations.tanh
    assert not rectified_dropouts(model)
