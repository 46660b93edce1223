import pytest

from digits.errors import UsageError
from digits.sweeps.variants import Combination, bases, variants
from tests.support.sweeps import BASE


def test_choices_of_several_settings_make_a_product_in_their_order() -> None:
    made = variants(BASE, {"learning_rate": ["0.1", "0.2"], "dropout": [["0", "0.5"]]})

    assert [variant.label for variant in made] == [
        "cnn best learning_rate=0.1 dropout=[0.0, 0.5]",
        "cnn best learning_rate=0.2 dropout=[0.0, 0.5]",
    ]
    assert [variant.settings.learning_rate for variant in made] == [0.1, 0.2]
    assert made[0].settings.dropout == (0.0, 0.5)


def test_a_combination_has_the_variant_s_settings_and_its_seed() -> None:
    (variant,) = variants(BASE, {})
    combination = Combination(variant=variant, seed=7)

    assert combination.label == "handwriting cnn best seed 7"
    assert combination.settings == BASE.settings.model_copy(update={"seed": 7})


def test_every_recipe_of_every_model_on_every_dataset_is_a_base() -> None:
    made = bases(["a", "b"], ["mlp"], ["best", "fast"], epochs=3, fastest="float32")

    assert [(one.dataset, one.recipe) for one in made] == [
        ("a", "best"),
        ("a", "fast"),
        ("b", "best"),
        ("b", "fast"),
    ]
    assert {one.settings.epochs for one in made} == {3}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("learning_rate", "abc", "--set learning_rate=abc: expected a valid number"),
        ("learning_rate", "0", "--set learning_rate=0: expected greater than 0"),
        ("optimizer", "sgd", "expected 'adamax', 'adadelta', 'adam' or 'adamw'"),
        ("epochs", "2.5", "--set epochs=2.5: expected a valid integer"),
        ("dropout", ["0.1"], "the cnn needs 2 rates"),
        ("distortion", {"rotation": "-1"}, "rotation"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused(
    name: str, value: object, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as refused:
        BASE.changed({name: value})
    assert "in the cnn with recipe best" in str(refused.value) or name == "dropout"


def test_the_same_value_in_two_spellings_is_refused() -> None:
    with pytest.raises(UsageError, match="--set has a duplicate: cnn best learning_rate"):
        variants(BASE, {"learning_rate": ["0.001", "1e-3"]})
