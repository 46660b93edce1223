"""A lock manager for Prefect: kernel file locks on one machine, leases in Redis among several.

They only save double work. Results are right without them: a record is written whole, and refers to
content by its digest.
"""
# ruff: noqa: ARG002  (Prefect's protocol defines the signatures)

import asyncio
import contextlib
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from digits.storage import locks
from digits.storage.workspace import current_workspace
from tasks.leases import Lease, leases_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    holder: str
    descriptor: int
    lease: Lease | None


class StepLocks:
    """One lock per key, across threads, processes and machines that share the current workspace.

    Prefect's own file lock manager records the holder in a file, which a killed holder leaves
    behind forever; the kernel releases a file lock when the process ends, and a lease expires.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._guard = threading.Lock()

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Wait for the lock of `key` and take it; does nothing if `holder` already has it.

        Raises UsageError if leases are configured and cannot be used at all.
        """
        if self.is_lock_holder(key, holder):
            return True
        leases = leases_of(current_workspace().settings)
        descriptor = locks.acquire(
            self._path(key), f"waiting for another run of the same step ({key[:12]})"
        )
        try:
            lease = leases.take(key) if leases else None
        except BaseException:
            _free(self._path(key), descriptor)
            raise
        with self._guard:
            self._held[key] = _Held(holder, descriptor, lease)
        return True

    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Like acquire_lock, without blocking the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder)

    def release_lock(self, key: str, holder: str) -> None:
        """Release the lock of `key`. Raises ValueError if `holder` does not have it."""
        with self._guard:
            held = self._held.get(key)
            if held is None or held.holder != holder:
                raise ValueError(f"{holder} does not hold the lock for {key}")
            del self._held[key]
        if held.lease is not None:
            held.lease.end()
        _free(self._path(key), held.descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anyone on this machine holds the lock of `key`."""
        return not locks.is_free(self._path(key))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder`, in this process, holds the lock of `key`."""
        with self._guard:
            held = self._held.get(key)
            return held is not None and held.holder == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody on this machine holds the lock of `key`."""
        _free(self._path(key), locks.acquire(self._path(key)))
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Like wait_for_lock, without blocking the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key)

    def _path(self, key: str) -> Path:
        return current_workspace().settings.artifacts_dir / "locks" / f"{key}.lock"


def _free(path: Path, descriptor: int) -> None:
    # Removed while still held: waiting processes notice and create a new file.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    os.close(descriptor)
