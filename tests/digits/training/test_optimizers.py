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


def after_seven_steps(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Return two variables and the optimizer's state after seven steps."""
    generator = np.random.default_rng(0)
    variables = [
        keras.Variable(generator.normal(size=shape).astype(np.float32)) for shape in ((30, 4), (4,))
    ]
    for _ in range(7):
        gradients = [generator.normal(size=one.shape).astype(np.float32) for one in variables]
        optimizer.apply([keras.ops.convert_to_tensor(one) for one in gradients], variables)
    return [keras.ops.convert_to_numpy(one) for one in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_steps_of_keras(name: str) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 5, warmup_target=0.1, warmup_steps=2, alpha=0.1
    )
    options = {"use_ema": True, "ema_momentum": 0.9, "weight_decay": 0.01}

    found = after_seven_steps(OPTIMIZERS[name](schedule, **options))
    right = after_seven_steps(PLAIN[name](schedule, **options))

    for value, expected in zip(found, right, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
