import pytest

from digits.escaping.spreadsheet import cell


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "\uff1d1", "\rx", "-"]
)
def test_a_formula_becomes_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a.png", "3", "-1", "+1.5", "1-2", "a=b", "März"])
def test_other_text_and_numbers_stay_as_they_are(text: str) -> None:
    assert cell(text) == text
