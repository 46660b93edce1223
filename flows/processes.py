"""Processes that may outlive the one that started them, and are found by the lock they hold."""

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from digits.errors import DigitsError
from digits.settings import ROOT, Settings
from digits.storage import locks

logger = logging.getLogger(__name__)

# One that ended sooner than this after its start would only end again.
STEADY_SECONDS = 30
# How long a worker has to report the end of a run.
NOTICE_SECONDS = 3


class Process:
    """A process by its name. It holds a lock of the kernel's as long as it lives, however it ends.

    The lock's file keeps its pid: a pid alone could be another's by now.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.log = settings.artifacts_dir / "logs" / f"{name}.log"
        self._lock = settings.artifacts_dir / "locks" / f"{name}.lock"
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether anything holds the lock."""
        return not locks.is_free(self._lock)

    @property
    def notes(self) -> list[str]:
        """What the living process is noted with, its pid first; empty if none is alive."""
        return self._lock.read_text(encoding="utf-8").split() if self.is_alive else []

    @contextlib.contextmanager
    def be_this(self) -> Iterator[Callable[[str], None]]:
        """Let the present process be it for a block, which may add a note.

        Raises BlockingIOError where there is one already.
        """
        descriptor = locks.acquire(self._lock, wait=False)
        try:
            _write(descriptor, str(os.getpid()))
            yield lambda note: _write(descriptor, f"{os.getpid()} {note}")
        finally:
            os.close(descriptor)

    def start(self, command: list[str]) -> None:
        """Start it, in a session of its own: a Ctrl-C in our terminal is ours to pass on."""
        descriptor = locks.acquire(self._lock, wait=False)
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._child = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
            _write(descriptor, str(self._child.pid))
        finally:
            os.close(descriptor)
        self._started = time.monotonic()

    def check(self) -> None:
        """Raise DigitsError with the end of the log if what we started has ended."""
        if self._child is not None and self._child.poll() is not None:
            raise DigitsError(
                f"the {self.name} ended with exit code {self._child.returncode}; "
                f"{self.log} ends with:\n{self._end_of_log()}"
            )

    def keep_alive(self, command: list[str]) -> None:
        """Start it again if it ended. Raises DigitsError if it had hardly begun."""
        if self._child is not None and self._child.poll() is not None:
            if time.monotonic() - self._started < STEADY_SECONDS:
                self.check()
            code = self._child.returncode
            logger.warning("the %s ended with exit code %d: starting it again", self.name, code)
            self.start(command)

    def end(self, seconds: float, *, children_first: bool = False) -> None:
        """Ask it to end and wait until it has; kill it if it takes longer than `seconds`.

        `children_first` kills its children before that, and gives it the time to take note.
        """
        if self.notes:
            pid = int(self.notes[0])
            while children_first and _kill_children(pid):
                time.sleep(NOTICE_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                self._stop(pid, time.monotonic() + seconds)
        if self._child is not None:
            self._child.wait()

    def _stop(self, pid: int, deadline: float) -> None:
        os.kill(pid, signal.SIGTERM)
        while self.is_alive:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _end_of_log(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-5:])


def kill_holders(lock: Path, command: str) -> None:
    """Kill the processes that hold a lock and whose command line has `command` in it.

    Only Linux says who holds a lock; elsewhere nothing happens.
    """
    locks_held = Path("/proc/locks")
    if not (lock.exists() and locks_held.exists()):
        return
    for line in locks_held.read_text(encoding="ascii").splitlines():
        _, _, _, _, pid, file, *_ = line.replace("->", "").split()
        if int(file.rpartition(":")[2]) != lock.stat().st_ino:
            continue
        with contextlib.suppress(OSError):
            if command in Path("/proc", pid, "cmdline").read_text(encoding="utf-8"):
                os.killpg(int(pid), signal.SIGKILL)


def _kill_children(pid: int) -> bool:
    """Kill a process's children, each with the session that it leads; whether there were any."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    )
    pairs = (map(int, line.split()) for line in listing.stdout.splitlines())
    children = [child for child, parent in pairs if parent == pid]
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    return bool(children)


def _write(descriptor: int, text: str) -> None:
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
