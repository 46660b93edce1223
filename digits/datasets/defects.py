"""Defects of source data, collected so that users see all of them at once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from digits.datasets.advice import leaving_out
from digits.errors import DataError
from digits.thresholds import DefectName, Severity

logger = logging.getLogger(__name__)

NUM_SHOWN = 5


class DefectError(DataError):
    """A defect that makes a complete file unusable; `check` is the failed check."""

    def __init__(self, check: DefectName, message: str) -> None:
        super().__init__(_line(message))
        self.check = check

    def __reduce__(self) -> tuple[type, tuple[DefectName, str]]:
        return type(self), (self.check, str(self))


@dataclass
class Defect:
    """All places (files or rows) that failed one check; only the first few are named."""

    check: DefectName
    found: str
    expected: str
    count: int = 0
    places: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The first place, what was found and expected there, and the number of other places."""
        more = self.count - 1
        others = f"; {more:,} more, such as {', '.join(self.places[1:])}" if more else ""
        return _line(
            f"{self.places[0]} {self.found}, expected {self.expected}{others} ({self.check})"
        )


class Defects:
    """Collect unusable rows and files by check.

    `severity` maps each check to "error" (the default), "warning" or "off". What failed is always
    skipped; an error also stops the use of the rest.
    """

    def __init__(self, severity: Mapping[DefectName, Severity] | None = None) -> None:
        self._severity = severity or {}
        self._found: dict[DefectName, Defect] = {}
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know about how the files were read, though nothing is wrong."""
        return tuple(self._notes)

    def note(self, text: str) -> None:
        """Add a note, unless the same one was added before."""
        self._notes.setdefault(_line(text))

    @property
    def found(self) -> tuple[Defect, ...]:
        """All defects, whatever their severity."""
        return tuple(self._found.values())

    def of(self, severity: Severity) -> tuple[Defect, ...]:
        """Return the defects of one severity."""
        return tuple(
            defect
            for defect in self._found.values()
            if self._severity.get(defect.check, "error") == severity
        )

    def add(
        self, check: DefectName, places: Sequence[str], found: str, expected: str, count: int = 0
    ) -> None:
        """Record places that failed a check; `found` is a verb phrase about the first of them.

        `count` is the total number if `places` lists only the first few.
        """
        defect = self._found.setdefault(check, Defect(check, found, expected))
        defect.count += count or len(places)
        defect.places += places[: NUM_SHOWN - len(defect.places)]

    def refuse_errors(self) -> None:
        """Raise DataError if there are errors."""
        errors = self.of("error")
        if errors:
            remedy = leaving_out([defect.check for defect in errors])
            raise DataError(f"{'; '.join(map(str, errors))}. Fix the data, or {remedy}")

    def enforce(self) -> None:
        """Raise DataError if there are errors; otherwise log each warning in one line."""
        self.refuse_errors()
        for defect in self.of("warning"):
            logger.warning("skipped: %s", defect)


def _line(message: str) -> str:
    """Join a message into one line: text from a library or a file may have several."""
    return " ".join(message.split())


def refuse(check: DefectName, place: str, found: str, expected: str) -> NoReturn:
    """Raise DefectError: the file cannot be used at all."""
    raise DefectError(check, f"{place} {found}, expected {expected} ({check})")
