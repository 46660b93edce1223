"""A limit on the memory that a block of a test uses."""

import contextlib
import tracemalloc
from collections.abc import Iterator


@contextlib.contextmanager
def peak_memory(at_most: int) -> Iterator[None]:
    """Fail if the block's peak memory exceeds `at_most` bytes."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= at_most
