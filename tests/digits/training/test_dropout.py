import keras
import numpy as np
import pytest

from digits.training.dropout import PooledDropout


def layer(rate: float = 0.3, seed: int = 1) -> PooledDropout:
    made = PooledDropout(rate, seed, batch_size=100)
    made.build((None, 30, 40))
    return made


def masks(dropout: PooledDropout, num_steps: int = 1, num_images: int = 100) -> np.ndarray:
    """Return the outputs for ones in several training steps."""
    ones = np.ones((num_images, 30, 40), np.float32)
    steps = [keras.ops.convert_to_numpy(dropout(ones, training=True)) for _ in range(num_steps)]
    return np.stack(steps)


def test_outside_training_no_unit_is_dropped() -> None:
    images = np.random.default_rng(0).random((5, 30, 40), np.float32)

    assert (keras.ops.convert_to_numpy(layer()(images)) == images).all()
    assert (keras.ops.convert_to_numpy(layer(rate=0.0)(images, training=True)) == images).all()


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_a_share_of_the_units_is_0_and_the_others_are_scaled_up(rate: float) -> None:
    made = masks(layer(rate), num_steps=3)

    assert np.unique(made) == pytest.approx([0, 1 / (1 - rate)])
    # For 120,000 units per step, the standard error is below 0.0015.
    assert (made == 0).mean(axis=(1, 2, 3)) == pytest.approx(rate, abs=0.01)


def test_each_step_and_image_drops_different_units() -> None:
    first, second = masks(layer(0.5), num_steps=2)

    for one, other in ((first, second), (first[0], first[1]), (first[:, 0], first[:, 1])):
        assert (one == other).mean() == pytest.approx(0.5, abs=0.05)


def test_steps_depend_only_on_the_seed_and_the_state_variable() -> None:
    dropout, same = layer(), layer()
    assert (masks(dropout, num_steps=2) == masks(same, num_steps=2)).all()
    assert (masks(dropout) != masks(layer(seed=2))).any()

    (state,) = dropout.variables
    before = keras.ops.convert_to_numpy(state)
    third = masks(dropout)
    state.assign(before)

    assert (masks(dropout) == third).all()


def test_the_last_minibatch_of_an_epoch_can_be_smaller() -> None:
    made = masks(layer(), num_images=7)

    assert made.shape == (1, 7, 30, 40)
    assert (made == 0).mean() == pytest.approx(0.3, abs=0.03)
