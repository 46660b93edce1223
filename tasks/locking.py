"""A lock manager for Prefect on kernel file locks, which end with the holder's process."""
# ruff: noqa: ARG002  (Prefect's protocol defines the signatures)

import asyncio
import contextlib
import logging
import os
import threading
from pathlib import Path

from digits.storage import locks
from digits.storage.workspace import current_workspace

logger = logging.getLogger(__name__)


class FlockManager:
    """One lock per key, across threads and processes of this machine, in the current workspace.

    Prefect's own file lock manager records the holder in a file, which a killed holder leaves
    behind forever; the kernel releases a file lock when the process ends.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, int]] = {}
        self._guard = threading.Lock()

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Wait for the lock of `key` and take it; does nothing if `holder` already has it."""
        if self.is_lock_holder(key, holder):
            return True
        waiting = f"waiting for another run of the same step ({key[:12]})"
        descriptor = locks.acquire(self._path(key), waiting)
        with self._guard:
            self._held[key] = (holder, descriptor)
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
            if self._held.get(key, ("",))[0] != holder:
                raise ValueError(f"{holder} does not hold the lock for {key}")
            _, descriptor = self._held.pop(key)
        _free(self._path(key), descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anyone on this machine holds the lock of `key`."""
        return not locks.is_free(self._path(key))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder`, in this process, holds the lock of `key`."""
        with self._guard:
            return self._held.get(key, ("",))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock of `key` is free."""
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
