"""Advice on how to have files read differently, naming only what exists at that moment.

While `digits dataset init` inspects files, their dataset has no spec yet: advice names options of
that command. Later, it names keys of the dataset spec.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from digits.thresholds import DefectName

_has_no_spec: ContextVar[bool] = ContextVar("has_no_spec", default=False)


@contextlib.contextmanager
def without_spec() -> Iterator[None]:
    """Let advice within the block name options of `digits dataset init`."""
    token = _has_no_spec.set(True)
    try:
        yield
    finally:
        _has_no_spec.reset(token)


def setting(key: str, *values: str | float) -> str:
    """Say how to set a key of the spec: `--pixel-range 0 1`, or `pixel_range = [0, 1]` in it.

    The option must be called like the key. A value in capital letters stands for what the user
    has to insert. Without a value, the key is a switch.
    """
    if _has_no_spec.get():
        return " ".join([f"--{key.replace('_', '-')}", *map(str, values)])
    texts = [_toml(value) for value in values or (True,)]
    return f"{key} = {texts[0] if len(texts) == 1 else _listed(texts)} in the dataset spec"


def leaving_out(checks: Sequence[DefectName]) -> str:
    """Say how to leave out the images that fail these checks of files."""
    if _has_no_spec.get():
        return f"leave out the affected images with {' '.join(f'--leave-out {c}' for c in checks)}"
    named = " and ".join(f'{check} = "warning"' for check in checks)
    return (
        f"leave out the affected images by setting {named} under [thresholds.severity] in the "
        "dataset spec"
    )


def _toml(value: str | float) -> str:
    return value if isinstance(value, str) and value.isupper() else json.dumps(value)


def _listed(texts: Sequence[str]) -> str:
    return f"[{', '.join(texts)}]"
