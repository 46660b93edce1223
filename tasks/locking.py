"""Prefect's lock manager on the kernel's file locks: free as soon as the holder's process ends."""
# ruff: noqa: ARG002  (the signatures are those of Prefect's protocol)

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
    """One lock a key, among threads and processes of this machine, in the present workspace.

    Prefect's own file lock manager records the holder in a file, which a killed holder leaves
    behind for ever; a lock of the kernel's goes with the process.
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
        """Wait for the lock of `key` and take it. A holder that has it already keeps it."""
        if self.is_lock_holder(key, holder):
            return True
        waiting = f"waiting for another run that is at the same step ({key[:12]})"
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
        """As acquire_lock, without blocking the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder)

    def release_lock(self, key: str, holder: str) -> None:
        """Free the lock of `key`. Raises ValueError when `holder` does not have it."""
        with self._guard:
            if self._held.get(key, ("",))[0] != holder:
                raise ValueError(f"{holder} does not hold the lock of {key}")
            _, descriptor = self._held.pop(key)
        _free(self._path(key), descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anybody on this machine holds the lock of `key`."""
        return not locks.is_free(self._path(key))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder`, of this process, holds the lock of `key`."""
        with self._guard:
            return self._held.get(key, ("",))[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock of `key`."""
        _free(self._path(key), locks.acquire(self._path(key)))
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """As wait_for_lock, without blocking the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key)

    def _path(self, key: str) -> Path:
        return current_workspace().settings.artifacts_dir / "locks" / f"{key}.lock"


def _free(path: Path, descriptor: int) -> None:
    # Removed while it is held: those who wait for it notice, and make the next one.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    os.close(descriptor)
