"""Leases in Redis, so that two machines that share a store do not run the same step at once.

A lease is a key that expires unless it is renewed: that of a killed holder ends by itself. Redis
never decides about a result, so it may be away: then a step may run twice, and nothing else.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from digits.errors import UsageError
from digits.settings import Settings

if TYPE_CHECKING:
    from redis import Redis
    from redis.lock import Lock

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a lease lasts without being renewed, in seconds; it is renewed four times as often, so
# that three renewals may fail.
SECONDS = 60.0
RENEWALS = 4
# How often a waiting machine looks whether the lease has ended.
LOOK_SECONDS = 0.5
# How long Redis has to answer, and how long it is left alone after it did not: less than between
# two renewals.
ANSWER_SECONDS = 5.0
PAUSE_SECONDS = 10.0


def leases_of(settings: Settings) -> "Leases | None":
    """Return the leases of a store, or None if DIGITS_REDIS_URL or DIGITS_STORE is not set.

    Without a store, machines share no results, and have nothing to wait for. Raises UsageError if
    the address cannot be one of Redis, and if its client is not installed.
    """
    if settings.redis_url is None or settings.store is None:
        return None
    return _leases(settings.redis_url.get_secret_value(), settings.store)


@cache
def _leases(url: str, store: str) -> "Leases":
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise UsageError(
            "DIGITS_REDIS_URL is set, but Redis's client is not installed; "
            "install it with `make team`, or unset the variable"
        ) from error
    try:
        client = Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            # Once, since a connection from before a restart of Redis is of no use.
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError:
        raise UsageError(
            "DIGITS_REDIS_URL is not an address of Redis (expected redis://HOST:6379/0, or "
            "rediss:// for TLS)"
        ) from None  # the cause can contain the password
    return Leases(client, store)


class Leases:
    """The leases of the steps whose results lie in one store."""

    def __init__(self, client: "Redis", store: str) -> None:
        self._client = client
        self._prefix = f"digits:{hashlib.sha256(store.encode()).hexdigest()[:16]}:step:"
        self._retry_at = 0.0

    def take(self, key: str) -> "Lease | None":
        """Wait for the lease of a step and take it; return None if Redis is away."""
        lock = self._client.lock(
            self._prefix + key, timeout=SECONDS, sleep=LOOK_SECONDS, thread_local=False
        )
        return self.ask(lambda: self._take(lock, key))

    def ask(self, question: Callable[[], T]) -> T | None:
        """Ask Redis; return None, with one warning as long as it stays away, if it is away."""
        from redis.exceptions import LockError, RedisError

        if time.monotonic() < self._retry_at:
            return None
        try:
            answer = question()
        except LockError:
            raise
        except RedisError as error:
            if not self._retry_at:
                logger.warning(
                    "Redis does not answer (%s): going on without leases, so another machine may "
                    "do the same work; results are not affected",
                    error,
                )
            self._retry_at = time.monotonic() + PAUSE_SECONDS
            return None
        if self._retry_at:
            logger.info("Redis answers again")
            self._retry_at = 0.0
        return answer

    def _take(self, lock: "Lock", key: str) -> "Lease":
        if not lock.acquire(blocking=False):
            logger.info("waiting for another machine that runs the same step (%s)", key[:12])
            lock.acquire()
        return Lease(self, lock, key)


class Lease:
    """A lease that is renewed by a thread until it ends."""

    def __init__(self, leases: Leases, lock: "Lock", key: str) -> None:
        self._leases, self._lock, self._key = leases, lock, key
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {key[:12]}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let others have it; does nothing if it was lost, or if Redis is away."""
        from redis.exceptions import LockError

        self._is_over.set()
        self._thread.join()
        try:
            self._leases.ask(self._lock.release)
        except LockError:
            logger.info("the lease of a step had expired (%s)", self._key[:12])

    def _renew(self) -> None:
        from redis.exceptions import LockError

        while not self._is_over.wait(SECONDS / RENEWALS):
            try:
                self._leases.ask(self._lock.reacquire)
            except LockError:
                logger.warning(
                    "lost the lease of a step (%s): another machine may run it as well; "
                    "results are not affected",
                    self._key[:12],
                )
                return
