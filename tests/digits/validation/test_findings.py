from pathlib import Path

from digits.validation.findings import (
    Finding,
    ValidationFailed,
    ValidationOutcome,
)

BLANK = Finding(
    split="test",
    check="pixel_max",
    column="pixel_max",
    expectation="expect_column_values_to_be_between",
    severity="error",
    success=False,
    about="brightest pixel of each image",
    found="0 to 255",
    expected="at least 254",
    rows=(5,),
    num_rows=1,
)
SORTED = BLANK.model_copy(
    update={
        "check": "label_repeats",
        "about": "share of rows whose label equals the previous row's",
        "found": "0.98",
        "expected": "0.05 to 0.15",
        "rows": (),
        "num_rows": 0,
    }
)
WARNED = BLANK.model_copy(update={"severity": "warning"})
PASSED = BLANK.model_copy(update={"success": True, "rows": (), "num_rows": 0})


def test_a_finding_says_what_was_found_expected_and_where() -> None:
    assert str(BLANK) == (
        "test, brightest pixel of each image (pixel_max):"
        " found 0 to 255, expected at least 254; row 5"
    )
    assert str(SORTED).endswith("found 0.98, expected 0.05 to 0.15")
    assert str(BLANK.model_copy(update={"rows": (5, 9), "num_rows": 2})).endswith("; rows 5, 9")
    assert str(BLANK.model_copy(update={"num_rows": 40})).endswith("; 40 rows: 5, ...")


def test_only_an_error_fails_an_outcome() -> None:
    outcome = ValidationOutcome(findings=(PASSED, WARNED))

    assert outcome.success
    assert outcome.num_expectations == 2
    assert outcome.warnings == (WARNED,)
    assert not ValidationOutcome(findings=(PASSED, BLANK)).success


def test_the_error_has_a_line_for_each_failure_and_says_where_to_look() -> None:
    outcome = ValidationOutcome(findings=(PASSED, BLANK, WARNED, SORTED))

    error = ValidationFailed(outcome, Path("store") / "page.html")

    lines = str(error).splitlines()
    assert lines[0] == "2 of 4 expectations of the data failed; nothing was trained:"
    assert lines[1:3] == [f"  {BLANK}", f"  {SORTED}"]
    assert str(Path("store") / "page.html") in lines[3]
    assert "[thresholds]" in lines[3]
    assert error.outcome is outcome
