"""Keras's optimizers, with a variable's update as one operation where the backend has one.

Keras composes an update of a dozen operations, each of which reads and writes all of a variable:
half of the MLP's step. TensorFlow computes the same formulas in one pass over the memory.
"""

from collections.abc import Mapping
from typing import Any

import keras


class OnePassAdamax(keras.optimizers.Adamax):  # type: ignore[misc]
    """Adamax, with its update in one pass."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its two moments in place."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdaMax(
            var=variable.handle,
            m=self._m[index].value.handle,
            v=self._u[index].value.handle,
            beta1_power=tf.pow(self.beta_1, tf.cast(self.iterations + 1, variable.dtype)),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class OnePassAdadelta(keras.optimizers.Adadelta):  # type: ignore[misc]
    """Adadelta, with its update in one pass."""

    def update_step(self, grad: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its two averages in place."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdadelta(
            var=variable.handle,
            accum=self._accumulated_grads[index].value.handle,
            accum_update=self._accumulated_delta_vars[index].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            rho=self.rho,
            epsilon=self.epsilon,
            grad=grad,
        )


def _apply_adam(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    import tensorflow as tf

    index, step = self._get_variable_index(variable), tf.cast(self.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=self._momentums[index].value.handle,
        v=self._velocities[index].value.handle,
        beta1_power=tf.pow(self.beta_1, step),
        beta2_power=tf.pow(self.beta_2, step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=self.beta_1,
        beta2=self.beta_2,
        epsilon=self.epsilon,
        grad=gradient,
    )


class OnePassAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam, with its update in one pass."""

    update_step = _apply_adam


class OnePassAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW, with its update in one pass; Keras applies the weight decay before it."""

    update_step = _apply_adam


_PLAIN: Mapping[str, type[keras.optimizers.Optimizer]] = {
    "adamax": keras.optimizers.Adamax,
    "adadelta": keras.optimizers.Adadelta,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
}
_ONE_PASS: Mapping[str, type[keras.optimizers.Optimizer]] = {
    "adamax": OnePassAdamax,
    "adadelta": OnePassAdadelta,
    "adam": OnePassAdam,
    "adamw": OnePassAdamW,
}
OPTIMIZERS = _ONE_PASS if keras.config.backend() == "tensorflow" else _PLAIN
