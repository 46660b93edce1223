"""What each of Ray's processes does first, before it imports Prefect or a library."""

import sys

from digits.settings import Settings
from flows.console import show_logs
from flows.environment import prepare_environment


def prepare() -> None:
    """Set the environment as `digits` does, and log to standard error, which Ray passes on."""
    prepare_environment(Settings())
    # Ray has replaced the stream; as the original it can be kept apart from native output.
    sys.__stderr__ = sys.stderr  # type: ignore[misc, assignment]
    show_logs()
