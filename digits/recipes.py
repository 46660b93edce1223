"""Recipes: named training settings for each model.

To add a recipe, add an entry to RECIPES. Only the models that it lists can be trained with it.
"""

from collections.abc import Mapping

from pydantic import ValidationError

from digits.errors import UsageError
from digits.models import MODELS, Distortion, Precision, RecipeSettings, TrainingSettings

# About as much as digits differ from one person's handwriting to another's. With 12 degrees and
# elastic displacements of 1.2 pixels, both models became worse; larger but smoother displacements
# helped the CNN (benchmarks/accuracy.md).
HANDS = Distortion(rotation=10, scaling=0.12, shear=0.1, translation=1.0, elastic=0.8)
SMOOTH_HANDS = HANDS.model_copy(update={"elastic": 1.2, "smoothness": 8.0})

REFERENCE = {name: model.settings for name, model in MODELS.items()}

RECIPES: Mapping[str, Mapping[str, RecipeSettings]] = {
    "reference": REFERENCE,
    "fast": {
        "mlp": REFERENCE["mlp"].model_copy(update={"masks": "pooled"}),
        "cnn": RecipeSettings.model_validate(
            REFERENCE["cnn"].model_dump() | {"masks": "pooled", "precision": "fastest"}
        ),
    },
    "quick": {
        "mlp": RecipeSettings(
            optimizer="adam",
            learning_rate=0.003,
            dropout=(0.2, 0.2),
            epochs=4,
            schedule="cosine",
            warmup=0.2,
            masks="pooled",
        ),
        "cnn": RecipeSettings(
            optimizer="adam",
            learning_rate=0.003,
            dropout=(0.0, 0.0, 0.3),
            epochs=4,
            schedule="cosine",
            warmup=0.2,
            precision="fastest",
            masks="pooled",
        ),
    },
    "best": {
        "mlp": RecipeSettings(
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
        "cnn": RecipeSettings(
            optimizer="adamw",
            learning_rate=0.003,
            dropout=(0.0, 0.0, 0.0),
            epochs=30,
            schedule="cosine",
            warmup=0.05,
            weight_decay=0.01,
            label_smoothing=0.05,
            averaging=0.998,
            precision="fastest",
            distortion=SMOOTH_HANDS,
        ),
    },
}


def training_settings(
    recipe: str,
    model: str,
    *,
    epochs: int | None = None,
    seed: int = 0,
    fastest: Precision = "float32",
    precision: Precision | None = None,
) -> TrainingSettings:
    """Return the settings of `model` in `recipe`, with the run's overrides.

    `fastest` is the device's fastest precision, for recipes that ask for it; `precision` is used
    whatever the recipe says.

    Raises UsageError for an unknown recipe or model, or for a setting that is out of range.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r} (expected one of {', '.join(RECIPES)})")
    if model not in MODELS:
        raise UsageError(f"unknown model {model!r} (expected one of {', '.join(MODELS)})")
    settings = RECIPES[recipe].get(model)
    if settings is None:
        raise UsageError(
            f"recipe {recipe!r} has no settings for model {model!r}: add them in digits/recipes.py "
            f"or use another recipe ({', '.join(_recipes_of(model))})"
        )
    stated = fastest if settings.precision == "fastest" else settings.precision
    changes = {"seed": seed, "precision": precision or stated}
    changes |= {} if epochs is None else {"epochs": epochs}
    try:
        return TrainingSettings.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        wrong = error.errors()[0]
        expected = wrong["msg"].removeprefix("Input should be ")
        expected = expected.replace("greater than or equal to", "at least")
        raise UsageError(
            f"--{wrong['loc'][0]} must be {expected} (got {wrong['input']})"
        ) from error


def _recipes_of(model: str) -> list[str]:
    return [recipe for recipe, settings in RECIPES.items() if model in settings]
