"""What is wrong with source data, collected so that a user reads all of it at once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from digits.errors import DataError
from digits.thresholds import DefectName, Severity

logger = logging.getLogger(__name__)

NUM_SHOWN = 5


class DefectError(DataError):
    """A defect that leaves nothing of a file to use; `check` is its name."""

    def __init__(self, check: DefectName, message: str) -> None:
        super().__init__(_line(message))
        self.check = check


@dataclass
class Defect:
    """All places that failed one check. A place is a file or a row; the first few are named."""

    check: DefectName
    found: str
    expected: str
    count: int = 0
    places: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The first place, what was found and expected there, and how many more there are."""
        more = self.count - 1
        others = f"; {more:,} more, as {', '.join(self.places[1:])}" if more else ""
        return _line(
            f"{self.places[0]} {self.found}, expected {self.expected}{others} ({self.check})"
        )


class Defects:
    """Collects the rows and files that cannot be used, by check.

    `severity` says of each check whether a failure is an error (the default), a warning, or off. In
    any case what failed is left out: an error stops what is done with the rest.
    """

    def __init__(self, severity: Mapping[DefectName, Severity] | None = None) -> None:
        self._severity = severity or {}
        self._found: dict[DefectName, Defect] = {}

    @property
    def found(self) -> tuple[Defect, ...]:
        """What failed, whatever its severity."""
        return tuple(self._found.values())

    def of(self, severity: Severity) -> tuple[Defect, ...]:
        """What failed of one severity."""
        return tuple(
            defect
            for defect in self._found.values()
            if self._severity.get(defect.check, "error") == severity
        )

    def add(
        self, check: DefectName, places: Sequence[str], found: str, expected: str, count: int = 0
    ) -> None:
        """Note places that failed a check. `found` says what the first is or does, as a verb.

        `count` is given where `places` are only the first of them.
        """
        defect = self._found.setdefault(check, Defect(check, found, expected))
        defect.count += count or len(places)
        defect.places += places[: NUM_SHOWN - len(defect.places)]

    def enforce(self) -> None:
        """Raise DataError for the errors; say in one line each what was left out with a warning."""
        errors = self.of("error")
        if errors:
            names = ", ".join(defect.check for defect in errors)
            raise DataError(
                f"{'; '.join(map(str, errors))}. Correct the data; or say {names} = "
                '"warning" in [thresholds.severity] of the spec, and they are left out'
            )
        for defect in self.of("warning"):
            logger.warning("left out: %s", defect)


def _line(message: str) -> str:
    """A message as one line: what a library or a file says may have several."""
    return " ".join(message.split())


def refuse(check: DefectName, place: str, found: str, expected: str) -> NoReturn:
    """Raise DefectError: nothing of a file can be used."""
    raise DefectError(check, f"{place} {found}, expected {expected} ({check})")
