import pytest
from pydantic import ValidationError

from digits.errors import UsageError
from digits.models import TrainingSettings
from digits.recipes import RECIPES, training_settings


def test_the_reference_recipe_has_the_published_settings() -> None:
    mlp, cnn = (training_settings("reference", model) for model in ("mlp", "cnn"))

    assert (mlp.optimizer, mlp.batch_size, mlp.epochs) == ("adamax", 128, 10)
    assert (cnn.optimizer, cnn.batch_size, cnn.epochs) == ("adadelta", 128, 10)


def test_a_run_overrides_only_epochs_and_seed() -> None:
    settings = training_settings("reference", "cnn", epochs=3, seed=5)

    assert (settings.epochs, settings.seed) == (3, 5)
    assert settings.model_copy(update={"epochs": 10, "seed": 0}) == RECIPES["reference"]["cnn"]


def test_an_unknown_recipe_is_rejected_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"recipe 'swift' \(expected one of reference, fast"):
        training_settings("swift", "mlp")


def test_an_unknown_model_is_rejected_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'resnet' \(expected one of mlp, cnn\)"):
        training_settings("reference", "resnet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, r"^--epochs must be at least 1 \(got 0\)$"),
        ({"seed": -1}, r"^--seed must be at least 0 \(got -1\)$"),
        ({"seed": 2**31}, r"^--seed must be less than 2147483648 \(got 2147483648\)$"),
    ],
)
def test_a_setting_out_of_range_is_a_usage_error(changes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        training_settings("reference", "mlp", **changes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"dropout": (1.0, 0.2)},
        {"dropout": (-0.1, 0.2)},
        {"batch_size": 0},
        {"optimizer": "sgd"},
        {"precision": "float16"},
        {"precision": "fastest"},
        {"masks": "none"},
        {"warmup": 1.0},
        {"averaging": 1.0},
        {"distortion": {"rotation": -1}},
        {"distortion": {"rotatoin": 1}},
        {"learning_rat": 0.1},
    ],
)
def test_invalid_settings_are_rejected(wrong: dict[str, object]) -> None:
    right = RECIPES["reference"]["mlp"].model_dump()

    with pytest.raises(ValidationError):
        TrainingSettings.model_validate(right | wrong)


def test_settings_survive_json() -> None:
    # The ledger stores a model version's settings, which are read when it is trained again.
    for recipe, models in RECIPES.items():
        for model in models:
            settings = training_settings(recipe, model)
            assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings


def test_the_fastest_precision_is_stated_before_a_training() -> None:
    for recipe in ("fast", "quick", "best"):
        assert training_settings(recipe, "cnn").precision == "float32"
        found = training_settings(recipe, "cnn", fastest="mixed_bfloat16")
        assert found.precision == "mixed_bfloat16"
        assert training_settings(recipe, "mlp", fastest="mixed_bfloat16").precision == "float32"
    chosen = training_settings("reference", "mlp", precision="mixed_bfloat16")
    assert chosen.precision == "mixed_bfloat16"
