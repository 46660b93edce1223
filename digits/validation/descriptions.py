"""Words for what a check expected and what it found.

A describing function takes the frame of a split and the `result` from Great Expectations.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pandas as pd

Describe = Callable[[pd.DataFrame, dict[str, Any]], str]


def number(value: Any) -> str:
    """Format a number; if not an integer, to six digits, since machines may differ beyond them."""
    as_float = float(value)
    return str(int(as_float)) if as_float.is_integer() else f"{as_float:.6g}"


def interval(low: float | None, high: float | None) -> str:
    """Describe the numbers from `low` to `high`, either of which may be unbounded."""
    if low is None:
        return "0" if high == 0 else f"at most {number(high)}"
    if high is None:
        return f"at least {number(low)}"
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def observed(_: pd.DataFrame, result: dict[str, Any]) -> str:
    """The number that the expectation computed."""
    return number(result["observed_value"])


def divergence(_: pd.DataFrame, result: dict[str, Any]) -> str:
    """A KL divergence; Great Expectations returns None if it is infinite."""
    value = result["observed_value"]
    return "infinity: a label does not occur in train" if value is None else number(value)


def num_missing(_: pd.DataFrame, result: dict[str, Any]) -> str:
    """The number of rows without a value."""
    return number(result["unexpected_count"])


def extent(column: str) -> Describe:
    """The minimum and maximum of a column."""
    return lambda frame, _: interval(frame[column].min(), frame[column].max())


def named(classes: Iterable[int], names: Sequence[str] = ()) -> str:
    """List classes by their names, or by their numbers if these are not given."""
    return ", ".join(names[one] if one < len(names) else str(one) for one in classes)


def unknown_labels(num_classes: int) -> Describe:
    """The labels outside 0..num_classes-1."""

    def describe(frame: pd.DataFrame, _: dict[str, Any]) -> str:
        unknown = sorted(set(frame["label"]) - set(range(num_classes)))
        return ", ".join(map(str, unknown)) or interval(0, num_classes - 1)

    return describe


def missing_classes(expected: Collection[int], names: Sequence[str] = ()) -> Describe:
    """The expected classes that have no images."""

    def describe(frame: pd.DataFrame, _: dict[str, Any]) -> str:
        missing = sorted(set(expected) - set(frame["label"]))
        return f"no image of class {named(missing, names)}" if missing else "all present"

    return describe


def class_sizes(low: float | None, high: float | None, names: Sequence[str] = ()) -> Describe:
    """The classes whose size is not between `low` and `high`."""

    def describe(frame: pd.DataFrame, _: dict[str, Any]) -> str:
        sizes = frame.groupby("label")["class_size"].first()
        is_small = sizes < (0 if low is None else low)
        is_large = sizes > (len(frame) if high is None else high)
        outside = sizes[is_small | is_large].items()
        listed = ", ".join(f"{size} of class {named([label], names)}" for label, size in outside)
        return listed or interval(sizes.min(), sizes.max())

    return describe
