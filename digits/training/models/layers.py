"""Layers with explicit seeds, using only Keras's own API.

Every layer has a name and every source of randomness its own seed, so that the same seed gives the
same weights, whatever else runs in the process.
"""

from collections.abc import Iterator
from itertools import count

import keras
from keras import layers

# TensorFlow folds larger numbers, so that seeds can collide, and JAX rejects them. With a prime,
# seeds below it never collide.
LAYER_SEEDS = 2_147_483_629


def layer_seeds(seed: int) -> Iterator[int]:
    """Yield a seed for each layer of a model whose seed is `seed`."""
    # A thousand numbers per seed, so that no two layers and no two seeds share one.
    return (number % LAYER_SEEDS for number in count(seed * 1000 + 1))


def dense(units: int, activation: str, name: str, seeds: Iterator[int]) -> layers.Dense:
    """Make a fully connected layer whose initial weights depend on the next of `seeds`."""
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def convolution(filters: int, name: str, seeds: Iterator[int]) -> layers.Conv2D:
    """Make a 3x3 convolution with ReLU whose initial weights depend on the next of `seeds`."""
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Conv2D(filters, 3, activation="relu", kernel_initializer=initializer, name=name)
