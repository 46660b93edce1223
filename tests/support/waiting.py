"""Waits for what real processes do in their own time."""

import time
from collections.abc import Callable
from typing import Any

# Seconds to wait, on two busy cores.
PATIENCE = 300


def wait_for(what: Callable[[], Any], about: str, seconds: float = PATIENCE) -> Any:
    """Return the result of `what` as soon as it is truthy."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {about}")
