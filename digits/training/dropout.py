"""Dropout at a fraction of the cost, for training only: its masks come from a pool."""

from typing import Any

import keras
import numpy as np
from keras import ops


class PooledDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose mask is a slice, at a random offset, of numbers that were drawn once.

    Drawing a number for each unit in each step takes a third of a step of the CNN. Here a step
    draws only the offset. Within a step, all units are independent; two steps share numbers, but
    for different units. The seed determines the pool; the offset comes from a state stored with
    the layer's variables.
    """

    # The number of offsets, and so of masks, and the numbers from one offset to the next: a slice
    # of float32 or bfloat16 is copied by TensorFlow unless it starts at a multiple of 64 bytes.
    NUM_PLACES, STRIDE = 2**15, 32

    def __init__(self, rate: float, seed: int, batch_size: int, **options: Any) -> None:
        super().__init__(**options)
        self._rate, self._seed, self._batch_size = rate, seed, batch_size
        self._places = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Draw the pool for inputs (batch, ...)."""
        self._num_units = int(np.prod([int(size or 0) for size in input_shape[1:]]))
        generator = np.random.default_rng(self._seed)
        num_numbers = self._batch_size * self._num_units + self.NUM_PLACES * self.STRIDE
        is_kept = generator.random(num_numbers, np.float32) >= self._rate
        scaled = is_kept * np.float32(self._kept_value())
        # Created once, here: inside a compiled step it would be created in every step.
        self._pool = ops.convert_to_tensor(scaled, self.compute_dtype)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Set a share `rate` of the inputs to 0 and scale the rest up to compensate."""
        if not training or self._rate == 0:
            return inputs
        return inputs * self._mask(inputs)

    def _kept_value(self) -> float:
        """Return the value of the masks where a unit is kept."""
        return 1 / (1 - self._rate)

    def _mask(self, inputs: Any) -> Any:
        """Return the next mask, in the shape of the inputs."""
        place = keras.random.randint((), 0, self.NUM_PLACES, "int32", self._places)
        shape = ops.shape(inputs)
        mask = ops.slice(self._pool, [place * self.STRIDE], [shape[0] * self._num_units])
        return ops.reshape(mask, shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input shape, which dropout does not change."""
        return input_shape
