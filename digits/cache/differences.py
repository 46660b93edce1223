"""Describes the differences between two cache keys of a step."""

from collections.abc import Iterator, Mapping
from typing import Any

from digits.storage.records import StepKey
from digits.training.processors import processor
from digits.training.variables import recorded_variables


def differences(then: StepKey, now: StepKey) -> Iterator[str]:
    """Yield each difference between two keys of a step: code, libraries, variables, then inputs.

    Code is compared only within one version of Python: another version changes every digest.
    """
    if then.libraries.get("python") == now.libraries.get("python"):
        yield from _code_differences(then.code, now.code)
    yield from _value_differences("", then.libraries, now.libraries)
    yield from _value_differences("", then.variables, now.variables)
    yield from _value_differences("", then.inputs, now.inputs)


def surrounding_differences(
    processor_then: str, variables: Mapping[str, str] | None
) -> Iterator[str]:
    """Yield how the processor and the recorded variables differ from those of this process.

    Yields nothing about what was not recorded.
    """
    if processor_then not in ("", processor()):
        yield f"processor {processor_then} -> {processor()}"
    if variables is not None:
        yield from _value_differences("", dict(variables), recorded_variables())


def _code_differences(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    removed, added = (_by_name(one, other) for one, other in ((then, now), (now, then)))
    # A definition that only moved to another file is not changed code.
    moved = removed.keys() & added.keys()
    left_out = {place for found in (removed, added) for key in moved for place in found[key]}
    for place in sorted((then.keys() | now.keys()) - left_out):
        if place not in then:
            yield f"{place} added"
        elif place not in now:
            yield f"{place} removed"
        elif then[place] != now[place]:
            yield f"{place} changed"
    if moved:
        yield f"{len(moved)} definition{'s' * (len(moved) > 1)} moved to other files"


def _by_name(code: Mapping[str, str], other: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """The places that `other` lacks, by name and digest of the definition."""
    places: dict[tuple[str, str], list[str]] = {}
    for place, digest in code.items():
        if place not in other:
            places.setdefault((place.rpartition(": ")[2], digest), []).append(place)
    return places


def _value_differences(place: str, then: Any, now: Any) -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            inner = f"{place}.{name}" if place else str(name)
            yield from _value_differences(inner, then.get(name), now.get(name))
    elif then != now:
        yield f"{place} {_short(then)} -> {_short(now)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
