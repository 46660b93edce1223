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


@pytest.mark.parametrize(
    ("outcome", "changes", "words"),
    [
        ("promoted", {"champion_after": 4}, "New champion: the cnn, version 4"),
        ("promoted", {"champion_before": None, "champion_after": 1}, "New champion: the cnn, "),
        ("kept", {}, "Version 3 stays champion"),
        ("unchanged", {}, "Version 3 stays champion"),
        ("kept", {"champion_before": None, "champion_after": None}, "No model is promoted"),
        ("rolled back", {"champion_after": 2}, "Version 2 is champion again"),
    ],
)
def test_headline_says_what_became_of_the_champion(
    outcome: str, changes: dict[str, Any], words: str
) -> None:
    assert headline(make_verdict(outcome, **changes)).startswith(words)


@pytest.mark.parametrize(
    ("shifts", "widest", "words"),
    [
        pytest.param(
            {"mlp": {0: 0.98, 1: 0.9, 2: 0.6}, "cnn": {0: 0.99, 1: 0.95, 2: 0.7}},
            2,
            "Where they differ most, at 2 pixels, the cnn reads 70.0% right, the mlp 60.0%: "
            "the cnn stands a shift better at every distance.",
            id="most at the farthest, which is so said once",
        ),
        pytest.param(
            {"mlp": {0: 0.98, 1: 0.5, 2: 0.1}, "cnn": {0: 0.99, 1: 0.9, 2: 0.2}},
            1,
            "Where they differ most, at 1 pixel, the cnn reads 90.0% right, the mlp 50.0%: "
            "the cnn stands a shift better at every distance. "
            "Of images moved by 2 pixels, the mlp reads 10.0% and the cnn reads 20.0% right.",
            id="most in between",
        ),
        pytest.param(
            {"mlp": {1: 0.9, 2: 0.3}, "cnn": {1: 0.6, 2: 0.4}},
            1,
            "Where they differ most, at 1 pixel, the mlp reads 90.0% right, the cnn 60.0%: "
            "the mlp stands a shift better here, though not at every distance. "
            "Of images moved by 2 pixels, the mlp reads 30.0% and the cnn reads 40.0% right.",
            id="neither at every distance",
        ),
        pytest.param(
            {"mlp": {1: 0.9, 2: 0.3}, "cnn": {1: 0.909, 2: 0.301}},
            1,
            "No model stands a shift better: they stay within one point of each other. "
            "Of images moved by 2 pixels, the mlp reads 30.0% and the cnn reads 30.1% right.",
            id="too close to tell",
        ),
        pytest.param(
            {"mlp": {1: 0.9}, "cnn": {1: 0.9}},
            1,
            "No model stands a shift better: they stay within one point of each other. "
            "Of images moved by 1 pixel, the mlp reads 90.0% and the cnn reads 90.0% right.",
            id="equal",
        ),
        pytest.param(
            {"a": {1: 0.9, 2: 0.5}, "b": {1: 0.8, 2: 0.4}, "c": {1: 0.7, 2: 0.1}},
            2,
            "Where they differ most, at 2 pixels, the a reads 50.0% right, the b 40.0% and "
            "the c 10.0%: the a stands a shift better at every distance.",
            id="three models",
        ),
        pytest.param(
            {"cnn": {0: 0.9, 3: 0.5}},
            3,
            "Of images moved by 3 pixels, the cnn reads 50.0% right.",
            id="one model",
        ),
        pytest.param(
            {"mlp": {0: 0.9, 1: 0.5, 4: 0}, "cnn": {0: 0.9, 1: 0.7, 5: 0}},
            1,
            "Where they differ most, at 1 pixel, the cnn reads 70.0% right, the mlp 50.0%: "
            "the cnn stands a shift better at every distance.",
            id="only what both were tried at counts",
        ),
        pytest.param({"mlp": {0: 0.9}}, 0, "No moved image was tried.", id="nothing moved"),
        pytest.param({"a": {1: 0.9}, "b": {2: 0.9}}, 0, "No moved image was tried.", id="disjoint"),
        pytest.param({}, 0, "No moved image was tried.", id="no model"),
    ],
)
def test_shift_is_judged_where_the_models_differ_most(
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
def test_smaller_model_is_named_with_how_much_smaller_it_is(
    sizes: dict[str, int], words: str
) -> None:
    assert parameters_remark(sizes) == words


def test_agreement_counts_every_image_once() -> None:
    is_right = {
        "mlp": np.repeat([True, True, False, False], [1000, 20, 3, 4]),
        "cnn": np.repeat([True, False, True, False], [1000, 20, 3, 4]),
    }

    assert agreement_remark(is_right) == (
        "Of 1,027 test images both read 1,000 right, only the mlp 20, only the cnn 3, neither 4."
    )


@pytest.mark.parametrize(
    ("confusion", "words"),
    [
        ([[5, 2, 0], [9, 5, 0], [0, 1, 5]], "Most often misread: b as a (9), a as b (2)."),
        ([[5, 1, 1], [1, 5, 0], [0, 0, 5]], "Most often misread: a as b (1), a as c (1)."),
        ([[5, 0, 0], [0, 5, 0], [0, 1500, 5]], "Most often misread: c as b (1,500)."),
        ([[5, 0, 0], [0, 0, 0], [0, 0, 7]], "Nothing was misread."),
    ],
)
def test_most_frequent_mistakes_come_first(confusion: list[list[int]], words: str) -> None:
    assert confusion_remark(np.array(confusion), "abc", number=2) == words


def test_distance_in_words() -> None:
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
def test_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.5, "50.00%"), (0.9999, "99.99%"), (0.99991, "over 99.99%"), (1.0, "over 99.99%")],
)
def test_certainty_claims_no_more_than_it_should(probability: float, words: str) -> None:
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
def test_setting_as_text(setting: object, words: str) -> None:
    assert value(setting) == words


def test_share_is_a_percentage() -> None:
    assert [share(0.9902), share(1), share(0)] == ["99.02%", "100.00%", "0.00%"]
