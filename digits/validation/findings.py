"""Results of a validation: one finding per expectation, and the error for failed data."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from digits.errors import DigitsError
from digits.thresholds import CheckName, Severity, Split

Part = Literal[Split, "batch"]
"""What a finding is about: a split of a dataset, or a batch to be added to a dataset."""
Subject = Literal["data", "batch"]

PAGE_FILE = "page.html"
MAX_ROWS = 10
"""Maximum number of failing rows in a finding."""
NUM_NAMES = 3
"""Maximum number of row names in one line, since names are long."""


class Finding(BaseModel, frozen=True, extra="forbid"):
    """One evaluated expectation: what was found and what was expected."""

    split: Part
    check: CheckName
    column: str | None
    """Column of the summary that was checked; None for the table as a whole."""
    expectation: str | None
    """Great Expectations' name of the expectation type; None for a problem found while reading."""
    severity: Severity
    success: bool
    about: str
    """What was checked, in words."""
    found: str
    expected: str
    rows: tuple[int, ...] = ()
    """The first failing rows, counted from 0 in the order of the file."""
    names: tuple[str, ...] = ()
    """Names of these rows in their files, if there can be several files or file formats."""
    num_rows: int = 0
    """Number of failing rows; also 0 if the split as a whole fails."""

    def __str__(self) -> str:
        """One line: what was found, what was expected, and where."""
        return (
            f"{self.split}, {self.about} ({self.check}):"
            f" found {self.found}, expected {self.expected}{self.at}"
        )

    @property
    def at(self) -> str:
        """The failing rows in words, to append to a sentence; empty if there are none."""
        if not self.num_rows:
            return ""
        if self.names:
            more = self.num_rows - NUM_NAMES
            others = f"; and {more:,} more" if more > 0 else ""
            return f"; {'; '.join(self.names[:NUM_NAMES])}{others}"
        named = ", ".join(map(str, self.rows))
        if self.num_rows > len(self.rows):
            return f"; {self.num_rows} rows: {named}, ..."
        return f"; {'row' if self.num_rows == 1 else 'rows'} {named}"

    @property
    def named(self) -> tuple[str, ...]:
        """The names of the first failing rows, or their numbers if they have no names."""
        return self.names or tuple(map(str, self.rows))


class ValidationOutcome(BaseModel, frozen=True, extra="forbid"):
    """All findings of one validation, in the order of the suite, train before test."""

    findings: tuple[Finding, ...]
    num_shared_images: int = 0
    """Number of test images equal to a training image, whether or not a bound allows them."""

    @property
    def success(self) -> bool:
        """Whether training can proceed: nothing failed, apart from warnings."""
        return not self.failures

    @property
    def num_expectations(self) -> int:
        """Number of evaluated expectations."""
        return len(self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Failed findings that stop a run."""
        return self._failed("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Failed findings that are only shown."""
        return self._failed("warning")

    def _failed(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.success and f.severity == severity)


class ValidationFailed(DigitsError):  # noqa: N818 -- it says what happened, not what broke
    """The data does not meet the expectations of the dataset spec."""

    def __init__(self, outcome: ValidationOutcome, page: Path) -> None:
        self.outcome, self.page = outcome, page
        failed = "\n".join(f"  {finding}" for finding in outcome.failures)
        super().__init__(
            f"{len(outcome.failures)} of {outcome.num_expectations} expectations of the data"
            f" failed; nothing was trained:\n{failed}\n"
            f"See {page} for all findings. Correct the data or, if it is right,"
            " [thresholds] in the dataset spec. If you have corrected a spec that `digits dataset"
            " init` wrote, `digits dataset init NAME --again` measures its bounds anew."
        )

    def __reduce__(self) -> tuple[type, tuple[ValidationOutcome, Path]]:
        return type(self), (self.outcome, self.page)
