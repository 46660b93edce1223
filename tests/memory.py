"""A bound on the memory that a block of a test takes."""

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def call_within(at_most: int, block: Callable[[], Result]) -> Result:
    """Call a block, and fail if it takes more bytes at any moment than it is allowed.

    All threads of the process are counted, also those that Prefect keeps for its own work. What
    the block itself takes it takes each time: so the least of three calls is its own.
    """
    peaks: list[int] = []
    while len(peaks) < 3:
        tracemalloc.start()
        try:
            result = block()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if peak <= at_most:
            return result
        peaks.append(peak)
    raise AssertionError(f"took {min(peaks):,} bytes, expected at most {at_most:,}")
