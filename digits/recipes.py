"""How each model is trained: the named settings that a run chooses from."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from digits.errors import UsageError

Optimizer = Literal["adamax", "adadelta", "adam", "adamw"]
Rate = Annotated[float, Field(ge=0, lt=1)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Distortion(BaseModel):
    """By how much an image is changed at random each time that it is trained on.

    Uniform up to these limits: `rotation` in degrees; `shear`, and `scaling` of height and width,
    as a share; `translation` in pixels. `elastic`: the standard deviation, in pixels, by which a
    pixel is moved by itself, and `smoothness` the one of the Gaussian over which its neighbours
    move along.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation: Limit = 0.0
    scaling: Rate = 0.0
    shear: Limit = 0.0
    translation: Limit = 0.0
    elastic: Limit = 0.0
    smoothness: float = Field(default=4.0, gt=0, allow_inf_nan=False)


class TrainingSettings(BaseModel):
    """Everything that a training reads beside its data, its code and its device.

    `schedule`: the learning rate stays, or falls to 0 along a cosine after it has risen for the
    share `warmup` of all steps. `averaging`: the momentum of the moving average of the weights,
    which then become the model's; 0 for none. `precision`: in which numbers layers are computed;
    weights are float32 always. `masks`: drawn for each step, or taken from a pool
    (digits.training.dropout).
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
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    masks: Literal["drawn", "pooled"] = "drawn"
    distortion: Distortion | None = None


# About as much as one hand's digits differ from another's. With 12 degrees and elastic moves of 1.2
# pixels both models became worse; moves that are larger and smoother helped the CNN
# (benchmarks/accuracy.md). Both are written out: a call that copies one counts as an effect of the
# import, and an edit here would run every step again.
HANDS = Distortion(rotation=10, scaling=0.12, shear=0.1, translation=1.0, elastic=0.8)
SMOOTH_HANDS = Distortion(
    rotation=10, scaling=0.12, shear=0.1, translation=1.0, elastic=1.2, smoothness=8.0
)

# The reference gives layers, optimizers, batch and epochs. It does not give the learning rates and
# the dropout rates; these are the ones that came nearest to its published curves.
RECIPES: Mapping[str, Mapping[str, TrainingSettings]] = {
    "reference": {
        "mlp": TrainingSettings(optimizer="adamax", learning_rate=0.001, dropout=(0.2, 0.2)),
        "cnn": TrainingSettings(optimizer="adadelta", learning_rate=1.0, dropout=(0.25, 0.25, 0.5)),
    },
    "fast": {
        "mlp": TrainingSettings(
            optimizer="adamax",
            learning_rate=0.001,
            dropout=(0.2, 0.2),
            masks="pooled",
        ),
        "cnn": TrainingSettings(
            optimizer="adadelta",
            learning_rate=1.0,
            dropout=(0.25, 0.25, 0.5),
            precision="mixed_bfloat16",
            masks="pooled",
        ),
    },
    "quick": {
        "mlp": TrainingSettings(
            optimizer="adam",
            learning_rate=0.003,
            dropout=(0.2, 0.2),
            epochs=4,
            schedule="cosine",
            warmup=0.2,
            masks="pooled",
        ),
        "cnn": TrainingSettings(
            optimizer="adam",
            learning_rate=0.003,
            dropout=(0.0, 0.0, 0.3),
            epochs=4,
            schedule="cosine",
            warmup=0.2,
            precision="mixed_bfloat16",
            masks="pooled",
        ),
    },
    "best": {
        "mlp": TrainingSettings(
            optimizer="adamw",
            learning_rate=0.003,
            dropout=(0.0, 0.0),
            batch_size=256,
            epochs=60,
            schedule="cosine",
            warmup=0.05,
            weight_decay=0.01,
            label_smoothing=0.05,
            averaging=0.998,
            distortion=HANDS,
        ),
        "cnn": TrainingSettings(
            optimizer="adamw",
            learning_rate=0.003,
            dropout=(0.0, 0.0, 0.0),
            epochs=30,
            schedule="cosine",
            warmup=0.05,
            weight_decay=0.01,
            label_smoothing=0.05,
            averaging=0.998,
            precision="mixed_bfloat16",
            distortion=SMOOTH_HANDS,
        ),
    },
}


def training_settings(
    recipe: str, model: str, *, epochs: int | None = None, seed: int = 0
) -> TrainingSettings:
    """The settings of `model` in `recipe`, with what the run overrides.

    Raises UsageError for a recipe or a model that there is none of, or a setting out of bounds.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}: choose one of {', '.join(RECIPES)}")
    settings = RECIPES[recipe].get(model)
    if settings is None:
        raise UsageError(
            f"recipe {recipe!r} has no model {model!r}: choose among {', '.join(RECIPES[recipe])}"
        )
    changes = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    try:
        return TrainingSettings.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UsageError(
            f"{wrong['loc'][0]} {wrong['input']!r} cannot be trained with: {wrong['msg'].lower()}"
        ) from error
