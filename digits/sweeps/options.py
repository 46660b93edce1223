"""Reads what a user writes about a sweep: seeds, choices of settings, ranges of settings."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from digits.errors import UsageError
from digits.models import TrainingSettings

SEED_LIMIT = 2**31
RANGE = re.compile(r"(?P<low>[^.,\s]\S*?)\.\.(?P<high>[^.,\s:]\S*?)(?P<log>:log)?")
SEEDS = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?")
# What a sweep sets by options of its own.
OWN = {"seed": "--seeds 0-4"}


@dataclass(frozen=True)
class Range:
    """A range of a setting, from which trials draw; both ends belong to it."""

    low: float
    high: float
    is_log: bool
    is_whole: bool


@dataclass(frozen=True)
class Choices:
    """What the options `--set` ask for: lists of values, and ranges, by the setting's name."""

    values: dict[str, Sequence[Any]]
    ranges: dict[str, Range]

    def each(self) -> Iterator[dict[str, Any]]:
        """Yield each value and each end of a range by itself."""
        for name, values in self.values.items():
            yield from ({name: value} for value in values)
        for name, ends in self.ranges.items():
            yield from ({name: ends.low}, {name: ends.high})


def read_seeds(text: str) -> tuple[int, ...]:
    """Read "0-4,7" as 0, 1, 2, 3, 4, 7. Raises UsageError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = SEEDS.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"--seeds {text}: {part.strip()!r} is neither a number nor a range (expected, for "
                "example, 0-4 or 0,1,7)"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < SEED_LIMIT:
            raise UsageError(
                f"--seeds {text}: {part.strip()} is out of range (expected 0 to {SEED_LIMIT - 1}, "
                "the smaller number first)"
            )
        if last - first >= 10_000:
            raise UsageError(f"--seeds {text}: {last - first + 1:,} seeds are too many")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds has a duplicate: {text}")
    return tuple(seeds)


def read_choices(texts: Iterable[str]) -> Choices:
    """Read "learning_rate=0.001,0.003" as values, "learning_rate=0.001..0.01:log" as a range.

    The values of a list are YAML; they are strings until a variant validates them. Raises
    UsageError.
    """
    choices = Choices({}, {})
    for text in texts:
        name, values = _split(text)
        if name in choices.values or name in choices.ranges:
            raise UsageError(f"--set has a duplicate: {name}; list all its values in one option")
        if match := RANGE.fullmatch(values):
            choices.ranges[name] = _range(text, name, match)
        else:
            choices.values[name] = _values(text, values)
    return choices


def _split(text: str) -> tuple[str, str]:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals and values):
        raise UsageError(
            f"--set {text}: expected NAME=VALUE,VALUE or NAME=LOW..HIGH, for example "
            "--set 'learning_rate=0.001,0.003'"
        )
    if name in OWN:
        raise UsageError(f"--set {name}: use {OWN[name]} instead")
    known = [field for field in TrainingSettings.model_fields if field not in OWN]
    if name not in known:
        raise UsageError(f"--set {name}: unknown setting (expected one of {', '.join(known)})")
    return name, values


def _values(text: str, values: str) -> Sequence[Any]:
    try:
        # Without types: whether 1e-3 or 010 is a number is for the setting's own type to say.
        found = yaml.load(f"[{values}]", Loader=yaml.BaseLoader)  # noqa: S506 -- only strings
    except yaml.YAMLError as error:
        raise UsageError(
            f"--set {text}: the values are unreadable; separate them by commas and put lists in "
            "brackets, as in --set 'dropout=[0.2, 0.2],[0.3, 0.3]'"
        ) from error
    return [None if value in ("null", "none") else value for value in found]


def _range(text: str, name: str, match: re.Match[str]) -> Range:
    kind = TrainingSettings.model_fields[name].annotation
    if kind not in (int, float):
        raise UsageError(f"--set {text}: only numbers have ranges; list the values instead")
    try:
        low, high = kind(match["low"]), kind(match["high"])
    except ValueError as error:
        whole = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"--set {text}: expected {whole}, as LOW..HIGH") from error
    if not low < high:
        raise UsageError(f"--set {text}: the range is empty (expected the smaller number first)")
    if match["log"] and low <= 0:
        raise UsageError(f"--set {text}: a logarithmic range starts above 0")
    return Range(low, high, is_log=bool(match["log"]), is_whole=kind is int)
