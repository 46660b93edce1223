"""Minibatches for training: shuffled, distorted if the recipe says so, and streamed."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from digits.models import TrainingSettings
from digits.training.arrays import StoredArray
from digits.training.distortion import distort

Array = npt.NDArray[Any]
Part = tuple[Array, Array]
# Images to read and distort at once.
PART = 8192
# Minibatches to prepare in advance, so that training does not wait for them.
PREFETCHED = 8


class Minibatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled minibatches straight from the store, epoch after epoch.

    The order of epoch n, counted from 1, and its distortions depend only on the seed and n, so that
    a resumed training sees the same data in the same order. A thread prepares the next part during
    training on the current one.
    """

    def __init__(self, x: StoredArray, y: StoredArray, settings: TrainingSettings) -> None:
        super().__init__()
        self._x, self._y = x, y
        self._settings = settings
        self._batches_in_part = max(PART // settings.batch_size, 1)
        self._preparing = ThreadPoolExecutor(1, "batches")
        self.begin(1)

    def __len__(self) -> int:
        """Return the number of minibatches in an epoch."""
        return math.ceil(len(self._x) / self._settings.batch_size)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        part, batch = divmod(index, self._batches_in_part)
        images, labels = self._part(part)
        start = batch * self._settings.batch_size
        rows = slice(start, start + self._settings.batch_size)
        return images[rows], labels[rows]

    def begin(self, epoch: int) -> None:
        """Switch to the order of this epoch, counted from 1."""
        self._epoch = epoch
        generator = np.random.default_rng((self._settings.seed, epoch))
        self._order = generator.permutation(len(self._x))
        self._parts: dict[int, Future[Part]] = {}

    def close(self) -> None:
        """Stop the thread."""
        self._preparing.shutdown(cancel_futures=True)

    def _part(self, number: int) -> Part:
        """Return a part of the epoch and start preparing the next one."""
        following = number + 1 if (number + 1) * self._batches_in_part < len(self) else number
        wanted = dict.fromkeys((number, following))
        self._parts = {
            part: self._parts.get(part) or self._preparing.submit(self._prepare, part)
            for part in wanted
        }
        return self._parts[number].result()

    def _prepare(self, part: int) -> Part:
        num_images = self._batches_in_part * self._settings.batch_size
        numbers = self._order[part * num_images : (part + 1) * num_images]
        images, labels = self._x.rows(numbers), self._y.rows(numbers)
        if self._settings.distortion is not None:
            # Counted from 1: a trailing zero would give the seed of the order.
            chance = np.random.default_rng((self._settings.seed, self._epoch, part + 1))
            images = distort(images[..., 0], self._settings.distortion, chance)[..., np.newaxis]
        return images, labels


class TestMinibatches(keras.utils.PyDataset):  # type: ignore[misc]
    """All rows in order, `size` at a time."""

    __test__ = False

    def __init__(self, x: StoredArray, y: StoredArray, size: int) -> None:
        super().__init__()
        self._x, self._y, self._size = x, y, size

    def __len__(self) -> int:
        """Return the number of minibatches."""
        return math.ceil(len(self._x) / self._size)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        start, stop = index * self._size, (index + 1) * self._size
        return self._x.part(start, stop), self._y.part(start, stop)


def feed(batches: keras.utils.PyDataset) -> Any:
    """Return `batches` in the form for Keras: as they are or, on TensorFlow, a tf.data.Dataset.

    The dataset that Keras would create enables tf.data's autotuning. Its tuning thread can miss the
    end of an epoch and delay the next one until it wakes up, by up to the length of an epoch.
    """
    if keras.config.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def all_batches() -> Iterator[tuple[Array, Array]]:
        return (batches[index] for index in range(len(batches)))

    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batches[0])
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_generator(all_batches, output_signature=signature)
    counted = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return counted.prefetch(PREFETCHED).with_options(options)
