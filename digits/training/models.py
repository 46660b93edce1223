"""The two architectures. At 28x28x1 and ten classes they are the reference's, to the parameter.

Every layer is named and every source of chance seeded by its own number, so that the same seed
gives the same weights whatever else runs in the process. Only Keras's own interface is used.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count

import keras
from keras import layers

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int, tuple[float, ...], int], keras.Model]

# TensorFlow folds larger numbers, so that two seeds can meet, and JAX refuses them. A prime keeps
# all seeds below it apart.
LAYER_SEEDS = 2_147_483_629


def build_mlp(
    image_shape: Shape, num_classes: int, dropout: tuple[float, ...], seed: int
) -> keras.Model:
    """Two hidden layers, 512 and 128 units: 468,874 parameters on MNIST.

    `image_shape` is (height, width, channels), `dropout` the rates after each hidden layer.
    Returns an uncompiled model from float32 (N, H, W, C) in 0..1 to class probabilities (N, K).
    """
    seeds = _seeds(seed)
    rate_1, rate_2 = dropout
    return keras.Sequential(
        [
            keras.Input(image_shape, name="image"),
            layers.Flatten(name="flatten"),
            _dense(512, "relu", "hidden_1", seeds),
            layers.Dropout(rate_1, seed=next(seeds), name="dropout_1"),
            _dense(128, "relu", "hidden_2", seeds),
            layers.Dropout(rate_2, seed=next(seeds), name="dropout_2"),
            _dense(num_classes, "softmax", "probabilities", seeds),
        ],
        name="mlp",
    )


def build_cnn(
    image_shape: Shape, num_classes: int, dropout: tuple[float, ...], seed: int
) -> keras.Model:
    """Two 3x3 convolutions, one pooling, one hidden layer: 301,274 parameters on MNIST.

    `image_shape` is (height, width, channels), `dropout` the rates after the first convolution,
    the pooling and the hidden layer. Returns an uncompiled model from float32 (N, H, W, C) in
    0..1 to class probabilities (N, K).
    """
    seeds = _seeds(seed)
    rate_1, rate_2, rate_3 = dropout
    return keras.Sequential(
        [
            keras.Input(image_shape, name="image"),
            _convolution(32, "convolution_1", seeds),
            layers.Dropout(rate_1, seed=next(seeds), name="dropout_1"),
            _convolution(16, "convolution_2", seeds),
            layers.MaxPooling2D(2, name="pooling"),
            layers.Dropout(rate_2, seed=next(seeds), name="dropout_2"),
            layers.Flatten(name="flatten"),
            _dense(128, "relu", "hidden", seeds),
            layers.Dropout(rate_3, seed=next(seeds), name="dropout_3"),
            _dense(num_classes, "softmax", "probabilities", seeds),
        ],
        name="cnn",
    )


BUILDERS: Mapping[str, Builder] = {"mlp": build_mlp, "cnn": build_cnn}


def _seeds(seed: int) -> Iterator[int]:
    # A thousand numbers for each seed, so that neither two layers nor two seeds share theirs.
    return (number % LAYER_SEEDS for number in count(seed * 1000 + 1))


def _dense(units: int, activation: str, name: str, seeds: Iterator[int]) -> layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def _convolution(filters: int, name: str, seeds: Iterator[int]) -> layers.Conv2D:
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Conv2D(filters, 3, activation="relu", kernel_initializer=initializer, name=name)
