"""Dropout at a fraction of the cost, for the time of a training: its masks come from a pool."""

from typing import Any

import keras
import numpy as np
from keras import ops


class PooledDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose mask is a slice, at a random place, of numbers that were drawn once.

    To draw a number for each unit in each step takes a third of a step of the CNN. Here a step
    draws one, the place. Within a step all units are independent; two steps share numbers, moved
    to other units. The pool follows from the seed, and the place from a state that is kept with
    the layer's variables.
    """

    # Places to choose from: as many masks.
    NUM_PLACES = 2**20

    def __init__(self, rate: float, seed: int, batch_size: int, **options: Any) -> None:
        super().__init__(**options)
        self._rate, self._seed, self._batch_size = rate, seed, batch_size
        self._places = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Draw the pool for inputs (batch, ...)."""
        self._num_units = int(np.prod([int(size or 0) for size in input_shape[1:]]))
        generator = np.random.default_rng(self._seed)
        num_numbers = self._batch_size * self._num_units + self.NUM_PLACES
        is_kept = generator.random(num_numbers, np.float32) >= self._rate
        scaled = is_kept * np.float32(1 / (1 - self._rate))
        # Made here, once: in a compiled step it would be made in every step.
        self._pool = ops.convert_to_tensor(scaled, self.compute_dtype)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Inputs of which a share of `rate` is 0, and the rest larger to make up for it."""
        if not training or self._rate == 0:
            return inputs
        place = keras.random.randint((), 0, self.NUM_PLACES, "int32", self._places)
        shape = ops.shape(inputs)
        mask = ops.slice(self._pool, [place], [shape[0] * self._num_units])
        return inputs * ops.reshape(mask, shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The inputs'."""
        return input_shape
