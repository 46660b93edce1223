"""Made-up findings for the tests of the validation page."""

from typing import Any

from digits.validation.findings import Finding, ValidationOutcome


def make_finding(**changes: Any) -> Finding:
    """Make a finding; without changes, of an expectation that is met."""
    fields = {
        "split": "train",
        "check": "pixel_max",
        "column": "pixel_max",
        "expectation": "expect_column_values_to_be_between",
        "severity": "error",
        "success": True,
        "about": "brightest pixel of each image",
        "found": "254 to 255",
        "expected": "at least 254",
    }
    return Finding.model_validate(fields | changes)


def make_outcome(*findings: Finding) -> ValidationOutcome:
    """Make an outcome: some successful findings in both splits, then `findings`."""
    healthy = [
        make_finding(split=split, check=check, about=about)
        for split in ("train", "test")
        for check, about in (
            ("columns", "columns of the table"),
            ("complete", "missing values of label"),
            ("ink", "share of each image's pixels above 127"),
        )
    ]
    return ValidationOutcome(findings=(*healthy, *findings))


FAILED = make_finding(
    success=False, found="0 to 255", rows=(5, 9), num_rows=2, about="brightest pixel of each image"
)
FAILED_AS_A_WHOLE = make_finding(
    split="test", check="num_images", success=False, found="9999", expected="10000"
)
FAILED_IN_MANY_ROWS = make_finding(
    split="test",
    check="class_size",
    success=False,
    found="40 of class 1",
    rows=tuple(range(10)),
    num_rows=40,
)
WARNED = make_finding(
    success=False, severity="warning", check="duplicates", found="1", rows=(7,), num_rows=1
)

TOO_FEW_IMAGES = make_finding(
    check="num_images",
    column=None,
    expectation="expect_table_row_count_to_equal",
    success=False,
    about="number of images",
    found="600",
    expected="6000",
)
