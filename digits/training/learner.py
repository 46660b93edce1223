"""The model during training: the same layers, made faster or more stable if the recipe says so.

A training always produces the plain model, which receives the trained weights.
"""

from typing import Any

import keras

from digits.models import TrainingSettings
from digits.training.dropout import PooledDropout
from digits.training.optimizers import OPTIMIZERS
from digits.training.rectified import RectifiedDropout, ScaledConvolution, rectified_dropouts

# Minibatches per call from Python, where the backend supports it: returning to Python after each
# takes a sixth of the MLP's time. The results are identical.
STEPS_PER_EXECUTION = 1 if keras.config.backend() == "torch" else 20


def make_learner(plain: keras.Model, settings: TrainingSettings, num_batches: int) -> keras.Model:
    """Return a compiled model to train in place of `plain`, starting from its weights.

    `num_batches` is the number of minibatches in an epoch. The trainable weights are in the order
    of those of `plain`.
    """
    learner = _adapted(plain, settings)
    learner.compile(
        optimizer=_optimizer(settings, num_batches * settings.epochs),
        loss=_loss(settings.label_smoothing),
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    learner.optimizer.build(learner.trainable_variables)
    make_metrics(learner)
    return learner


def make_metrics(model: keras.Model) -> None:
    """Create a compiled model's metrics now.

    Keras would create them while tracing the first step and then trace it again, which takes a
    third of the time before a training's first minibatch.
    """
    probabilities = keras.ops.zeros((1, model.output_shape[-1]))
    model.compute_metrics(None, keras.ops.zeros(1, "uint8"), probabilities)
    model.reset_metrics()


def outcome(learner: keras.Model) -> list[Any]:
    """Return the weights that training would produce now: averages if the optimizer keeps them."""
    if not learner.optimizer.use_ema:
        return list(learner.get_weights())
    present = learner.get_weights()
    learner.optimizer.finalize_variable_values(learner.trainable_variables)
    averaged = learner.get_weights()
    learner.set_weights(present)
    return list(averaged)


def _adapted(plain: keras.Model, settings: TrainingSettings) -> keras.Model:
    if settings.precision == "float32" and settings.masks == "drawn":
        return plain

    merged = rectified_dropouts(plain) if settings.masks == "pooled" else {}

    def adapted(layer: keras.layers.Layer) -> keras.layers.Layer:
        # The probabilities and the loss need full precision.
        precision = "float32" if layer is plain.layers[-1] else settings.precision
        if isinstance(layer, keras.layers.Dropout) and settings.masks == "pooled":
            dropout = RectifiedDropout if layer in merged.values() else PooledDropout
            return dropout(
                layer.rate, layer.seed, settings.batch_size, name=layer.name, dtype=precision
            )
        config = layer.get_config() | {"dtype": precision}
        if layer in merged:
            return ScaledConvolution(1 / (1 - merged[layer].rate), config)
        return type(layer).from_config(config)

    learner = keras.models.clone_model(plain, clone_function=adapted)
    learner.set_weights(plain.get_weights())
    return learner


def _optimizer(settings: TrainingSettings, num_steps: int) -> keras.optimizers.Optimizer:
    options: dict[str, Any] = {}
    if settings.weight_decay:
        options["weight_decay"] = settings.weight_decay
    if settings.averaging:
        options |= {"use_ema": True, "ema_momentum": settings.averaging}
    return OPTIMIZERS[settings.optimizer](_learning_rate(settings, num_steps), **options)


def _learning_rate(settings: TrainingSettings, num_steps: int) -> Any:
    if settings.schedule == "constant":
        return settings.learning_rate
    warmup = round(settings.warmup * num_steps)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(settings.learning_rate, num_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, num_steps - warmup, warmup_target=settings.learning_rate, warmup_steps=warmup
    )


def _loss(smoothing: float) -> Any:
    if not smoothing:
        return "sparse_categorical_crossentropy"

    def smoothed_crossentropy(y_true: Any, y_pred: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
        one_hot = keras.ops.one_hot(labels, y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(one_hot, y_pred, label_smoothing=smoothing)

    return smoothed_crossentropy
