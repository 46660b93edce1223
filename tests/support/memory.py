"""A bound on the memory that a block of a test takes."""

import contextlib
import tracemalloc
from collections.abc import Iterator


@contextlib.contextmanager
def peak_memory(at_most: int) -> Iterator[None]:
    """Fail if the block takes more bytes at any moment than it is allowed."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= at_most
