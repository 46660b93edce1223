"""The CNN. With 28x28x1 images and ten classes, it is exactly the reference's."""

import keras
from keras import layers

from digits.models import Shape
from digits.training.models.layers import convolution, dense, layer_seeds


def build_cnn(
    image_shape: Shape, num_classes: int, dropout: tuple[float, ...], seed: int
) -> keras.Model:
    """Build two 3x3 convolutions, one pooling and one hidden layer: 301,274 parameters on MNIST.

    `image_shape` is (height, width, channels), `dropout` the rates after the first convolution,
    the pooling and the hidden layer. Returns an uncompiled model from float32 (N, H, W, C) in
    0..1 to class probabilities (N, K).
    """
    seeds = layer_seeds(seed)
    rate_1, rate_2, rate_3 = dropout
    return keras.Sequential(
        [
            keras.Input(image_shape, name="image"),
            convolution(32, "convolution_1", seeds),
            layers.Dropout(rate_1, seed=next(seeds), name="dropout_1"),
            convolution(16, "convolution_2", seeds),
            layers.MaxPooling2D(2, name="pooling"),
            layers.Dropout(rate_2, seed=next(seeds), name="dropout_2"),
            layers.Flatten(name="flatten"),
            dense(128, "relu", "hidden", seeds),
            layers.Dropout(rate_3, seed=next(seeds), name="dropout_3"),
            dense(num_classes, "softmax", "probabilities", seeds),
        ],
        name="cnn",
    )
