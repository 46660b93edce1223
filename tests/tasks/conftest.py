"""The tasks' tests run flows of their own, like those of the command line."""

from collections.abc import Iterator

import pytest

from flows.heartbeats import without_heartbeats


@pytest.fixture(autouse=True)
def no_heartbeats() -> Iterator[None]:
    """Let flows end at once, as `digits run` does."""
    with without_heartbeats():
        yield
