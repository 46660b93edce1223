"""The models that a run can train, and their training settings.

To add a model, write a builder in a file in digits/training/models and add an entry to MODELS.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Optimizer = Literal["adamax", "adadelta", "adam", "adamw"]
Precision = Literal["float32", "mixed_bfloat16"]
Rate = Annotated[float, Field(ge=0, lt=1)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Distortion(BaseModel):
    """Limits of the random distortion of an image each time that it is used in training.

    Uniformly distributed up to these limits: `rotation` in degrees; `shear`, and `scaling` of
    height and width, as a share; `translation` in pixels. Elastic distortion moves each pixel by a
    random displacement: `elastic` is its standard deviation, in pixels, and `smoothness` that of
    the Gaussian that smooths the displacements of neighboring pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation: Limit = 0.0
    scaling: Rate = 0.0
    shear: Limit = 0.0
    translation: Limit = 0.0
    elastic: Limit = 0.0
    smoothness: float = Field(default=4.0, gt=0, allow_inf_nan=False)


class RecipeSettings(BaseModel):
    """The training settings of a recipe, which leave some of them to the device.

    `schedule`: the learning rate is constant, or rises for the share `warmup` of all steps and then
    falls to 0 along a cosine. `averaging`: momentum of the moving average of the weights, which
    becomes the model's weights at the end; 0 for no averaging. `precision`: number type in which
    layers are computed, or "fastest" for the device's fastest that keeps the accuracy; weights are
    always float32. `masks`: dropout masks are drawn for each step
    or taken from a pool (digits.training.dropout).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Optimizer
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    dropout: tuple[Rate, ...]
    batch_size: int = Field(default=128, ge=1)
    epochs: int = Field(default=10, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Rate = 0.0
    weight_decay: Limit = 0.0
    label_smoothing: Rate = 0.0
    averaging: Rate = 0.0
    precision: Precision | Literal["fastest"] = "float32"
    masks: Literal["drawn", "pooled"] = "drawn"
    distortion: Distortion | None = None


class TrainingSettings(RecipeSettings):
    """Everything that a training depends on in addition to its data, its code and its device."""

    precision: Precision = "float32"


Shape = tuple[int, int, int]
"""Height, width and channels of an image."""
Builder = Callable[[Shape, int, tuple[float, ...], int], Any]
"""Builds a model from an image shape, number of classes, dropout rates and seed."""


@dataclass(frozen=True)
class Model:
    """A model: its builder, and its settings in the recipe `reference`.

    The builder returns an uncompiled keras.Model from float32 (N, H, W, C) in 0..1 to class
    probabilities (N, K). If given as "module:function", it and Keras are imported only when the
    model is built.
    """

    builder: str | Builder
    settings: TrainingSettings

    def build(
        self, image_shape: Shape, num_classes: int, dropout: tuple[float, ...], seed: int
    ) -> Any:
        """Build the model; see `builder`."""
        builder = self.builder
        found = pkgutil.resolve_name(builder) if isinstance(builder, str) else builder
        return found(image_shape, num_classes, dropout, seed)


# The reference specifies layers, optimizers, batch size and epochs, but no learning rates and no
# dropout rates; these values came closest to its published curves.
MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "mlp": Model(
            builder="digits.training.models.mlp:build_mlp",
            settings=TrainingSettings(optimizer="adamax", learning_rate=0.001, dropout=(0.2, 0.2)),
        ),
        "cnn": Model(
            builder="digits.training.models.cnn:build_cnn",
            settings=TrainingSettings(
                optimizer="adadelta", learning_rate=1.0, dropout=(0.25, 0.25, 0.5)
            ),
        ),
    }
)
