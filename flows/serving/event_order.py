"""The order in which Prefect's server handles events, across restarts of the server.

An event may name another one that it follows, and waits until the server has handled that one. The
server remembers what it has handled in memory only: after a restart, the event that reports the
death of a run would wait for 15 minutes. The server loads this module by the setting
PREFECT_SERVER_EVENTS_CAUSAL_ORDERING.
"""

import time
from uuid import UUID

from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import Event

STARTED_MS = time.time_ns() // 1_000_000


class CausalOrdering(memory.CausalOrdering):
    """Prefect's order, but without waiting for an event from before this server's start."""

    async def event_has_been_seen(self, event: UUID | Event) -> bool:
        """Whether an event was handled, here or by an earlier server."""
        name = event.id if isinstance(event, Event) else event
        # The first 48 bits of a UUID of version 7 are its time in milliseconds (RFC 9562).
        is_earlier = name.version == 7 and name.int >> 80 < STARTED_MS
        return is_earlier or await super().event_has_been_seen(event)
