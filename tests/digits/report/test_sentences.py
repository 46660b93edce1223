from typing import Any

import numpy as np
import pytest

from digits.report.sentences import (
    Shift,
    agreement_remark,
    certainty,
    confusion_remark,
    duration,
    headline,
    parameters_remark,
    pixels,
    share,
    shift_remark,
    value,
    widest_shift,
)
from tests.support.reports import make_verdict

NOTHING_SHIFTED = "No shifted images were evaluated."


@pytest.mark.parametrize(
    ("outcome", "changes", "words"),
    [
        ("promoted", {"champion_after": 4}, "New champion: the cnn, version 4"),
        ("promoted", {"champion_before": None, "champion_after": 1}, "New champion: the cnn, "),
        ("kept", {}, "Version 3 remains champion"),
        ("unchanged", {}, "Version 3 remains champion"),
        ("kept", {"champion_before": None, "champion_after": None}, "No model was promoted"),
        ("rolled back", {"champion_after": 2}, "Version 2 is champion again"),
    ],
)
def test_headline_states_the_outcome_for_the_champion(
    outcome: str, changes: dict[str, Any], words: str
) -> None:
    assert headline(make_verdict(outcome, **changes)).startswith(words)


@pytest.mark.parametrize(
    ("shifts", "widest", "words"),
    [
        pytest.param(
            {"mlp": {0: 0.98, 1: 0.9, 2: 0.6}, "cnn": {0: 0.99, 1: 0.95, 2: 0.7}},
            2,
            "The models differ most at a shift of 2 pixels: accuracy is 70.0% for the cnn and "
            "60.0% for the mlp. The cnn is more robust at every distance.",
            id="most at the farthest distance, which is mentioned once",
        ),
        pytest.param(
            {"mlp": {0: 0.98, 1: 0.5, 2: 0.1}, "cnn": {0: 0.99, 1: 0.9, 2: 0.2}},
            1,
            "The models differ most at a shift of 1 pixel: accuracy is 90.0% for the cnn and 50.0% "
            "for the mlp. The cnn is more robust at every distance. "
            "At a shift of 2 pixels, accuracy is 10.0% for the mlp and 20.0% for the cnn.",
            id="most in between",
        ),
        pytest.param(
            {"mlp": {1: 0.9, 2: 0.3}, "cnn": {1: 0.6, 2: 0.4}},
            1,
            "The models differ most at a shift of 1 pixel: accuracy is 90.0% for the mlp and 60.0% "
            "for the cnn. The mlp is more robust at this distance, but not at every distance. "
            "At a shift of 2 pixels, accuracy is 30.0% for the mlp and 40.0% for the cnn.",
            id="neither at every distance",
        ),
        pytest.param(
            {"mlp": {1: 0.9, 2: 0.3}, "cnn": {1: 0.909, 2: 0.301}},
            1,
            "All models are equally robust to shifts, within one percentage point. "
            "At a shift of 2 pixels, accuracy is 30.0% for the mlp and 30.1% for the cnn.",
            id="too close to tell",
        ),
        pytest.param(
            {"mlp": {1: 0.9}, "cnn": {1: 0.9}},
            1,
            "All models are equally robust to shifts, within one percentage point. "
            "At a shift of 1 pixel, accuracy is 90.0% for the mlp and 90.0% for the cnn.",
            id="equal",
        ),
        pytest.param(
            {"a": {1: 0.9, 2: 0.5}, "b": {1: 0.8, 2: 0.4}, "c": {1: 0.7, 2: 0.1}},
            2,
            "The models differ most at a shift of 2 pixels: accuracy is 50.0% for the a, 40.0% for "
            "the b and 10.0% for the c. The a is more robust at every distance.",
            id="three models",
        ),
        pytest.param(
            {"cnn": {0: 0.9, 3: 0.5}},
            3,
            "At a shift of 3 pixels, accuracy is 50.0% for the cnn.",
            id="one model",
        ),
        pytest.param(
            {"mlp": {0: 0.9, 1: 0.5, 4: 0}, "cnn": {0: 0.9, 1: 0.7, 5: 0}},
            1,
            "The models differ most at a shift of 1 pixel: accuracy is 70.0% for the cnn and 50.0% "
            "for the mlp. The cnn is more robust at every distance.",
            id="only distances of both models count",
        ),
        pytest.param({"mlp": {0: 0.9}}, 0, NOTHING_SHIFTED, id="nothing shifted"),
        pytest.param({"a": {1: 0.9}, "b": {2: 0.9}}, 0, NOTHING_SHIFTED, id="disjoint"),
        pytest.param({}, 0, NOTHING_SHIFTED, id="no model"),
    ],
)
def test_models_are_compared_at_the_shift_where_they_differ_most(
    shifts: dict[str, Shift], widest: int, words: str
) -> None:
    assert widest_shift(shifts) == widest
    assert shift_remark(shifts) == words


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"mlp": 468_874, "cnn": 301_274},
            "The cnn has 301,274 parameters, 36% fewer than the mlp (468,874).",
        ),
        (
            {"small": 100, "large": 200},
            "The small has 100 parameters, 50% fewer than the large (200).",
        ),
        ({"a": 1000, "b": 1000}, "The a and the b have 1,000 parameters each."),
        (
            {"a": 999_999, "b": 1_000_000},
            "The a has 999,999 parameters, less than 1% fewer than the b (1,000,000).",
        ),
        (
            {"a": 1, "b": 1_000_000},
            "The a has 1 parameters, over 99% fewer than the b (1,000,000).",
        ),
    ],
)
def test_the_smaller_model_is_named_with_the_difference(sizes: dict[str, int], words: str) -> None:
    assert parameters_remark(sizes) == words


def test_agreement_counts_every_image_once() -> None:
    is_right = {
        "mlp": np.repeat([True, True, False, False], [1000, 20, 3, 4]),
        "cnn": np.repeat([True, False, True, False], [1000, 20, 3, 4]),
    }

    assert agreement_remark(is_right) == (
        "Of 1,027 test images, both models classify 1,000 correctly, only the mlp 20, only the cnn "
        "3, and neither 4."
    )


@pytest.mark.parametrize(
    ("confusion", "words"),
    [
        ([[5, 2, 0], [9, 5, 0], [0, 1, 5]], "Most frequent mistakes: b as a (9), a as b (2)."),
        ([[5, 1, 1], [1, 5, 0], [0, 0, 5]], "Most frequent mistakes: a as b (1), a as c (1)."),
        ([[5, 0, 0], [0, 5, 0], [0, 1500, 5]], "Most frequent mistakes: c as b (1,500)."),
        ([[5, 0, 0], [0, 0, 0], [0, 0, 7]], "No mistakes."),
    ],
)
def test_most_frequent_mistakes_come_first(confusion: list[list[int]], words: str) -> None:
    assert confusion_remark(np.array(confusion), "abc", number=2) == words


def test_distance_is_formatted() -> None:
    assert [pixels(1), pixels(2)] == ["1 pixel", "2 pixels"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (321.6, "5 min 22 s"),
        (3599.7, "1 h 0 min"),
        (7384, "2 h 3 min"),
    ],
)
def test_duration_is_formatted(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.5, "50.00%"), (0.9999, "99.99%"), (0.99991, "over 99.99%"), (1.0, "over 99.99%")],
)
def test_certainty_is_never_rounded_up_to_100_percent(probability: float, words: str) -> None:
    assert certainty(probability) == words


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ((0.2, 0.5), "0.2, 0.5"),
        ([], ""),
        (None, "-"),
        (0, "0"),
        (False, "False"),
        (1e-05, "1e-05"),
        ({"rotation": 8.0, "shear": 0.1}, "rotation 8.0, shear 0.1"),
    ],
)
def test_setting_is_formatted(setting: object, words: str) -> None:
    assert value(setting) == words


def test_share_is_a_percentage() -> None:
    assert [share(0.9902), share(1), share(0)] == ["99.02%", "100.00%", "0.00%"]
