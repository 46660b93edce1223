"""A sign of life of each run in Redis, for others to notice the loss of its machine.

A key that expires is renewed until the run's process ends. Redis measures the time, so the clocks
of machines do not matter. Losing Redis ends no run: `flows.serving.lost_runs` needs a second sign.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from digits.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60
RENEW_SECONDS = 15
# The longest that one request takes, also to a machine that answers nothing.
PATIENCE_SECONDS = 10
# On runs that have a lease; those of a worker without Redis have none.
LABEL = "digits.has-lease"


def connect(url: str) -> "Redis":
    """Return a client of Redis; it connects when it is used, again after each failure."""
    from redis import Redis

    return Redis.from_url(
        url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
    )


def key(run: UUID) -> str:
    """Return the name of a run's lease."""
    return f"digits:run:{run}"


@contextlib.contextmanager
def run_lease(run: UUID, settings: Settings) -> Iterator[None]:
    """Renew a run's lease in the background during a block; without Redis, do nothing."""
    if settings.redis_url is None:
        yield
        return
    from prefect.client.orchestration import get_client

    redis = connect(settings.redis_url.get_secret_value())
    is_over = threading.Event()
    renewal = threading.Thread(target=_renew, args=[redis, run, is_over], daemon=True)
    renewal.start()
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(run, {LABEL: True})
        yield
    finally:
        is_over.set()
        renewal.join()
        redis.close()


def _renew(redis: "Redis", run: UUID, is_over: threading.Event) -> None:
    from redis.exceptions import RedisError

    is_away = False
    while not is_over.is_set():
        try:
            redis.set(key(run), "", ex=LEASE_SECONDS)
            is_away = False
        except RedisError as error:
            if not is_away:
                logger.warning("Redis is away, so this run's lease is not renewed: %s", error)
            is_away = True
        is_over.wait(RENEW_SECONDS)
    with contextlib.suppress(RedisError):
        redis.delete(key(run))
