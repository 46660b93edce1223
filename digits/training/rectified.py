"""ReLU and dropout as one layer, for training only: a pass over the activations less.

The convolution before it leaves out the ReLU and scales its output up, as dropout would: a kernel
has far fewer numbers than the activations. With masks of 0 and 1, ReLU and dropout then have one
gradient, which is known from the output alone.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import keras
from keras import ops

from digits.training.dropout import PooledDropout


def rectified_dropouts(
    plain: keras.Model,
) -> Mapping[keras.layers.Conv2D, keras.layers.Dropout]:
    """Return the dropouts that can be merged with the ReLU of the convolution before them.

    Max-pooling may stand between, since the maximum and ReLU can change places. Needs TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        return {}
    layers = [layer for layer in plain.layers if not isinstance(layer, keras.layers.MaxPooling2D)]
    return {
        layer: following
        for layer, following in pairwise(layers)
        if isinstance(layer, keras.layers.Conv2D)
        and layer.activation is keras.activations.relu
        and isinstance(following, keras.layers.Dropout)
        and following.rate > 0
    }


class ScaledConvolution(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution, given by its configuration, without activation and multiplied by `scale`."""

    def __init__(self, scale: float, config: Mapping[str, Any]) -> None:
        super().__init__(**{**config, "activation": None})
        self._scale = scale

    def call(self, inputs: Any) -> Any:
        """Convolve (N, H, W, C) with the scaled kernel, and add the scaled bias."""
        return self.convolution_op(inputs, self.kernel * self._scale) + self.bias * self._scale


class RectifiedDropout(PooledDropout):
    """ReLU and dropout of inputs that were scaled up by 1 / (1 - rate)."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Set negative inputs and a share `rate` of the others to 0."""
        if not training:
            return ops.relu(inputs) * (1 - self._rate)
        return _rectified(inputs, self._mask(inputs))

    def _kept_value(self) -> float:
        return 1.0


@ops.custom_gradient  # type: ignore[untyped-decorator]
def _rectified(inputs: Any, mask: Any) -> Any:
    outputs = ops.relu(inputs) * mask

    def gradient(upstream: Any) -> tuple[Any, None]:
        import tensorflow as tf

        return tf.raw_ops.ReluGrad(gradients=upstream, features=outputs), None

    return outputs, gradient
