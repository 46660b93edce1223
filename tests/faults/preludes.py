"""Faults from inside: what a forked process does to itself before it runs `digits`."""
# Does not import the project: the forked processes import a copy of it.

import atexit
import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Audit events that the interpreter raises before it changes something on disk.
CHANGES = frozenset({"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Changes:
    """Counts the changes below `folder` with `text` in their path, just before each is made.

    A change creates, renames, truncates, flushes or deletes a file or a folder. The process is
    killed before change number `kill_at`, counted from 1; at exit, the count is written to the file
    `total`.
    """

    folder: Path
    text: str = ""
    kill_at: int = 0
    total: Path | None = None

    def __call__(self) -> None:
        self._count = 0
        self._fsync = os.fsync
        os.fsync = self._flush
        sys.addaudithook(self._hear)
        if self.total is not None:
            atexit.register(lambda: self.total.write_text(str(self._count)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and (arguments[2] or 0) & WRITING:
            self._meet(arguments[0])
        elif event in CHANGES:
            self._meet(arguments[1] if event == "os.rename" else arguments[0])

    def _flush(self, descriptor: int) -> None:
        self._meet(f"/proc/self/fd/{descriptor}")
        self._fsync(descriptor)

    def _meet(self, path: object) -> None:
        if not isinstance(path, str | os.PathLike):
            return
        name = os.fspath(path)
        if name.startswith("/proc/self/fd/"):
            name = str(Path(name).readlink())
        if not name.startswith(str(self.folder)) or self.text not in name:
            return
        self._count += 1
        if self._count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class LargestFile:
    """Limits the size of files to `num_bytes`, like a full disk for this process only."""

    num_bytes: int

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes, self.num_bytes))


def see_gpu() -> None:
    """Fake an NVIDIA driver with one GPU."""
    load = ctypes.CDLL
    ctypes.CDLL = lambda name, *a, **k: Driver() if name == "libcuda.so.1" else load(name, *a, **k)


class Driver:
    """The part of NVIDIA's driver that is needed here."""

    def cuInit(self, flags: int) -> int:  # noqa: ARG002
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: ARG002
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: ARG002
        name.value = b"Pretended GPU"
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:  # noqa: ARG002
        value._obj.value = 8  # compute capability 8.8
        return 0
