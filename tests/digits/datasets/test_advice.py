"""Advice names options of `init` before there is a spec, and keys of the spec afterwards."""

import pytest

from digits.datasets.advice import leaving_out, setting, without_spec
from digits.datasets.defects import Defects
from digits.errors import DataError


@pytest.mark.parametrize(
    ("key", "values", "option", "toml"),
    [
        ("pixel_range", (0, 1.5), "--pixel-range 0 1.5", "pixel_range = [0, 1.5]"),
        ("label_column", ("digit",), "--label-column digit", 'label_column = "digit"'),
        ("first_label", ("NUMBER",), "--first-label NUMBER", "first_label = NUMBER"),
        ("transposed", (), "--transposed", "transposed = true"),
    ],
)
def test_a_key_is_an_option_until_there_is_a_spec(
    key: str, values: tuple[str | float, ...], option: str, toml: str
) -> None:
    with without_spec():
        assert setting(key, *values) == option
    assert setting(key, *values) == f"{toml} in the dataset spec"


def test_what_can_be_left_out_is_named_as_what_exists() -> None:
    defects = Defects()
    defects.add("empty_file", ["a.png"], "is empty", "an image")
    with pytest.raises(DataError) as with_spec:
        defects.enforce()
    with without_spec(), pytest.raises(DataError) as before_the_spec:
        defects.enforce()

    assert 'empty_file = "warning" under [thresholds.severity]' in str(with_spec.value)
    assert str(before_the_spec.value).endswith(
        "leave out the affected images with --leave-out empty_file"
    )


def test_an_error_ends_the_advice_for_a_missing_spec() -> None:
    with pytest.raises(ValueError, match="wrong"), without_spec():
        raise ValueError("wrong")

    assert "--leave-out" not in leaving_out(["image_size"])
