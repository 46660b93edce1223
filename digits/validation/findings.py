"""What a validation found, one finding per expectation, and the error that a failed one raises."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from digits.errors import DigitsError
from digits.thresholds import CheckName, Severity, Split

Part = Literal[Split, "batch"]
"""What a finding is about: a split of a dataset, or a batch that is to be added to one."""
Subject = Literal["data", "batch"]

PAGE_FILE = "page.html"
MAX_ROWS = 10
"""How many of the rows at fault a finding names."""
NUM_NAMES = 3
"""How many of them a line names where their names are long."""


class Finding(BaseModel, frozen=True, extra="forbid"):
    """One evaluated expectation: what was found, and what was expected."""

    split: Part
    check: CheckName
    column: str | None
    """The summary's column that it judges; None: the table as a whole."""
    expectation: str | None
    """Type of the expectation, as Great Expectations names it; None: noticed while reading."""
    severity: Severity
    success: bool
    about: str
    """What it is about, in words."""
    found: str
    expected: str
    rows: tuple[int, ...] = ()
    """The first rows at fault, counted from 0 in the order of the file."""
    names: tuple[str, ...] = ()
    """What they are called in their files, where several files or forms of files are possible."""
    num_rows: int = 0
    """How many rows are at fault; 0 also where the split as a whole is."""

    def __str__(self) -> str:
        """One line: what was found, what was expected, and where."""
        return (
            f"{self.split}, {self.about} ({self.check}):"
            f" found {self.found}, expected {self.expected}{self.at}"
        )

    @property
    def at(self) -> str:
        """The rows at fault in words, to be appended to a sentence; empty if there are none."""
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
        """The first rows at fault by their names, or by their numbers where they have none."""
        return self.names or tuple(map(str, self.rows))


class ValidationOutcome(BaseModel, frozen=True, extra="forbid"):
    """All findings of one validation, in the order of the suite, train before test."""

    findings: tuple[Finding, ...]

    @property
    def success(self) -> bool:
        """Whether training may go on: nothing failed but what only warns."""
        return not self.failures

    @property
    def num_expectations(self) -> int:
        """How many expectations were evaluated."""
        return len(self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What failed and stops a run."""
        return self._failed("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What failed and is only shown."""
        return self._failed("warning")

    def _failed(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.success and f.severity == severity)


class ValidationFailed(DigitsError):  # noqa: N818 -- it says what happened, not what broke
    """The data is not what the dataset's spec expects."""

    def __init__(self, outcome: ValidationOutcome, page: Path) -> None:
        self.outcome, self.page = outcome, page
        failed = "\n".join(f"  {finding}" for finding in outcome.failures)
        super().__init__(
            f"{len(outcome.failures)} of {outcome.num_expectations} expectations of the data"
            f" failed, nothing was trained:\n{failed}\n"
            f"The page {page} shows all. Correct the data; if it is right as it is, correct"
            " [thresholds] in the dataset's spec."
        )
