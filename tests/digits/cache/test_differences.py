from typing import Any

import pytest

from digits.cache.differences import differences
from digits.storage.records import StepKey

THEN = StepKey(
    step="train",
    inputs={
        "arrays": "a" * 64,
        "model": "cnn",
        "settings": {"epochs": 10, "seed": 0, "dropout": [0.25, 0.5]},
    },
    code={"digits/training/models.py: build_cnn": "1", "digits/training/models.py: Builder": "2"},
    libraries={"python": "3.11", "keras": "3.15.1", "numpy": "2.4.6"},
)


def now(**changes: Any) -> StepKey:
    return THEN.model_copy(update=changes)


def test_equal_keys_do_not_differ() -> None:
    assert list(differences(THEN, now())) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"code": THEN.code | {"digits/training/models.py: build_cnn": "3"}},
            ["digits/training/models.py: build_cnn changed"],
        ),
        ({"code": {**THEN.code, "digits/new.py: f": "3"}}, ["digits/new.py: f added"]),
        (
            {"code": {"digits/training/models.py: build_cnn": "1"}},
            ["digits/training/models.py: Builder removed"],
        ),
        (
            {"code": {"a/cnn.py: build_cnn": "1", "a/types.py: Builder": "2"}},
            ["2 definitions moved to other files"],
        ),
        (
            {"code": {"a/cnn.py: build_cnn": "1", "a/types.py: Builder": "3"}},
            [
                "a/types.py: Builder added",
                "digits/training/models.py: Builder removed",
                "1 definition moved to other files",
            ],
        ),
        ({"libraries": THEN.libraries | {"keras": "3.16.0"}}, ["keras 3.15.1 -> 3.16.0"]),
        ({"libraries": THEN.libraries | {"jax": "0.7"}}, ["jax none -> 0.7"]),
        (
            {"inputs": THEN.inputs | {"arrays": "b" * 64}},
            ["arrays aaaaaaaaaaaa -> bbbbbbbbbbbb"],
        ),
        (
            {"inputs": THEN.inputs | {"settings": {"epochs": 3, "dropout": [0.25]}}},
            [
                "settings.dropout [0.25, 0.5] -> [0.25]",
                "settings.epochs 10 -> 3",
                "settings.seed 0 -> none",
            ],
        ),
        ({"inputs": THEN.inputs | {"settings": None}}, None),
    ],
)
def test_each_difference_is_described(changes: dict[str, Any], expected: list[str] | None) -> None:
    found = list(differences(THEN, now(**changes)))

    assert found == (expected or [f"settings {THEN.inputs['settings']} -> none"])


def test_all_differences_are_described_with_the_code_first() -> None:
    other = now(code={}, libraries=THEN.libraries | {"numpy": "3"}, inputs={"model": "mlp"})

    assert [text.split(" ")[0] for text in differences(THEN, other)] == [
        "digits/training/models.py:",
        "digits/training/models.py:",
        "numpy",
        "arrays",
        "model",
        "settings",
    ]


def test_code_is_not_compared_between_versions_of_python() -> None:
    other = now(code={"all": "different"}, libraries=THEN.libraries | {"python": "3.12"})

    assert list(differences(THEN, other)) == ["python 3.11 -> 3.12"]
