import pytest

from digits.errors import UsageError
from digits.sweeps.options import Range, read_choices, read_seeds


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("7, 0-1", (7, 0, 1)), ("5-5", (5,))]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is neither a number nor a range"),
        ("0-", "'0-' is neither a number nor a range"),
        ("-1", "'-1' is neither a number nor a range"),
        ("0-1-2", "is neither a number nor a range"),
        ("1.5", "is neither a number nor a range"),
        ("3-1", "3-1 is out of range"),
        ("2147483648", "is out of range"),
        ("0-2000000000", "2,000,000,001 seeds are too many"),
        ("0-2,1", "has a duplicate"),
    ],
)
def test_malformed_seeds_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_seeds(text)


def test_settings_have_lists_of_values_or_ranges() -> None:
    choices = read_choices(
        [
            "learning_rate=1e-3, 0.003",
            "dropout=[0.1, 0.2],[0, 0]",
            "distortion=null,{rotation: 5}",
            "weight_decay=0.001..0.1:log",
            "batch_size=32..256",
        ]
    )

    assert choices.values == {
        "learning_rate": ["1e-3", "0.003"],
        "dropout": [["0.1", "0.2"], ["0", "0"]],
        "distortion": [None, {"rotation": "5"}],
    }
    assert choices.ranges == {
        "weight_decay": Range(0.001, 0.1, is_log=True, is_whole=False),
        "batch_size": Range(32, 256, is_log=False, is_whole=True),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("learning_rate", "expected NAME=VALUE"),
        ("learning_rate=", "expected NAME=VALUE"),
        ("learning_rat=1", "unknown setting .expected one of optimizer, learning_rate"),
        ("seed=1,2", "use --seeds 0-4 instead"),
        ("dropout=[0.1", "the values are unreadable"),
        ("learning_rate=0.1..x", "expected numbers"),
        ("batch_size=1.5..2", "expected whole numbers"),
        ("learning_rate=0.2..0.1", "the range is empty"),
        ("weight_decay=0..0.1:log", "starts above 0"),
        ("optimizer=adam..adamw", "only numbers have ranges"),
        ("dropout=0.1..0.2", "only numbers have ranges"),
    ],
)
def test_malformed_settings_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_choices([text])


def test_a_setting_is_given_once() -> None:
    with pytest.raises(UsageError, match="--set has a duplicate: epochs"):
        read_choices(["epochs=1", "epochs=2..3"])
