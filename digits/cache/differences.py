"""What differs between two keys of a step, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

from digits.storage.records import StepKey


def differences(then: StepKey, now: StepKey) -> Iterator[str]:
    """What differs between two keys of a step, each in a few words: code, libraries, inputs.

    Code is compared within one version of Python only: another one changes how all of it reads.
    """
    if then.libraries.get("python") == now.libraries.get("python"):
        yield from _code_differences(then.code, now.code)
    for name in sorted(then.libraries.keys() | now.libraries.keys()):
        before, after = then.libraries.get(name, "none"), now.libraries.get(name, "none")
        if before != after:
            yield f"{name} {before} -> {after}"
    yield from _value_differences("", then.inputs, now.inputs)


def _code_differences(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for place in sorted(then.keys() | now.keys()):
        if place not in then:
            yield f"{place} added"
        elif place not in now:
            yield f"{place} gone"
        elif then[place] != now[place]:
            yield f"{place} changed"


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
