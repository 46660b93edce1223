"""Prefect's heartbeats of a run. Nothing here listens: the service watches a run's lock."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_heartbeats() -> Iterator[None]:
    """Send none for the flows of a block, unless the environment says how often.

    A run that sends them does not end before the thread that does, which sleeps a second at a time.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    # No value of the environment variable means never.
    with temporary_settings(set_defaults={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
