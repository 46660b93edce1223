"""Layers with seeds of their own, from Keras's own interface alone.

Every layer is named and every source of chance seeded by its own number, so that the same seed
gives the same weights whatever else runs in the process.
"""

from collections.abc import Iterator
from itertools import count

import keras
from keras import layers

# TensorFlow folds larger numbers, so that two seeds can meet, and JAX refuses them. A prime keeps
# all seeds below it apart.
LAYER_SEEDS = 2_147_483_629


def layer_seeds(seed: int) -> Iterator[int]:
    """Yield a seed for each layer of a model whose seed is `seed`."""
    # A thousand numbers for each seed, so that neither two layers nor two seeds share theirs.
    return (number % LAYER_SEEDS for number in count(seed * 1000 + 1))


def dense(units: int, activation: str, name: str, seeds: Iterator[int]) -> layers.Dense:
    """Make a fully connected layer whose initial weights depend on the next of `seeds`."""
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def convolution(filters: int, name: str, seeds: Iterator[int]) -> layers.Conv2D:
    """Make a 3x3 convolution with ReLU whose initial weights depend on the next of `seeds`."""
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Conv2D(filters, 3, activation="relu", kernel_initializer=initializer, name=name)
