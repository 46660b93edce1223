"""The MLP. With 28x28x1 images and ten classes, it is exactly the reference's."""

import keras
from keras import layers

from digits.models import Shape
from digits.training.models.layers import dense, layer_seeds


def build_mlp(
    image_shape: Shape, num_classes: int, dropout: tuple[float, ...], seed: int
) -> keras.Model:
    """Build two hidden layers of 512 and 128 units: 468,874 parameters on MNIST.

    `image_shape` is (height, width, channels), `dropout` the rates after each hidden layer.
    Returns an uncompiled model from float32 (N, H, W, C) in 0..1 to class probabilities (N, K).
    """
    seeds = layer_seeds(seed)
    rate_1, rate_2 = dropout
    return keras.Sequential(
        [
            keras.Input(image_shape, name="image"),
            layers.Flatten(name="flatten"),
            dense(512, "relu", "hidden_1", seeds),
            layers.Dropout(rate_1, seed=next(seeds), name="dropout_1"),
            dense(128, "relu", "hidden_2", seeds),
            layers.Dropout(rate_2, seed=next(seeds), name="dropout_2"),
            dense(num_classes, "softmax", "probabilities", seeds),
        ],
        name="mlp",
    )
