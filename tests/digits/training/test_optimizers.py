from typing import Any

import keras
import numpy as np
import pytest

from digits.training.optimizers import OPTIMIZERS

PLAIN = {
    "adamax": keras.optimizers.Adamax,
    "adadelta": keras.optimizers.Adadelta,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
}


def trained(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Return the weights and the optimizer's state after seven steps of a small model."""
    generator = np.random.default_rng(0)
    x, y = generator.random((20, 30), np.float32), generator.integers(4, size=20)
    initializer = keras.initializers.GlorotUniform(seed=1)
    layer = keras.layers.Dense(4, activation="softmax", kernel_initializer=initializer)
    model = keras.Sequential([keras.Input((30,)), layer])
    model.compile(optimizer, "sparse_categorical_crossentropy")
    for _ in range(7):
        model.train_on_batch(x, y)
    state = (keras.ops.convert_to_numpy(variable) for variable in optimizer.variables)
    return [*model.get_weights(), *state]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_steps_of_keras(name: str) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 5, warmup_target=0.1, warmup_steps=2, alpha=0.1
    )
    options = {"use_ema": True, "ema_momentum": 0.9, "weight_decay": 0.01}

    found = trained(OPTIMIZERS[name](schedule, **options))

    for value, expected in zip(found, trained(PLAIN[name](schedule, **options)), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
