"""How each model is trained: the named settings that a run chooses from."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from digits.errors import UsageError

Optimizer = Literal["adamax", "adadelta", "adam"]
Rate = Annotated[float, Field(ge=0, lt=1)]


class TrainingSettings(BaseModel):
    """Everything that a training reads beside its data, its code and its device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Optimizer
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    dropout: tuple[Rate, ...]
    batch_size: int = Field(default=128, ge=1)
    epochs: int = Field(default=10, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)


# The reference gives layers, optimizers, batch and epochs. It does not give the learning rates and
# the dropout rates; these are the ones that came nearest to its published curves.
RECIPES: Mapping[str, Mapping[str, TrainingSettings]] = {
    "reference": {
        "mlp": TrainingSettings(optimizer="adamax", learning_rate=0.001, dropout=(0.2, 0.2)),
        "cnn": TrainingSettings(optimizer="adadelta", learning_rate=1.0, dropout=(0.25, 0.25, 0.5)),
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
