"""Processes that may outlive their parent and are found by the lock that they hold."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from digits.errors import DigitsError
from digits.settings import Settings
from digits.storage import locks
from digits.storage.files import read_file

logger = logging.getLogger(__name__)

# Processes start here: Prefect executes what configuration files of the current folder name, and
# only root can write to this one.
NEUTRAL_FOLDER = Path("/")
# A process that ends sooner than this after its start is not restarted: it would only end again.
STEADY_SECONDS = 30
# A log that grows beyond this is moved aside, in place of the one moved before.
MAX_LOG_BYTES = 10_000_000
# Time for a worker to report the end of a run.
NOTICE_SECONDS = 3


class Process:
    """A named process, which holds a kernel lock exactly as long as it lives.

    The lock file contains its pid; without the lock, the pid could belong to another process.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.log = settings.artifacts_dir / "logs" / f"{name}.log"
        self._lock = settings.artifacts_dir / "locks" / f"{name}.lock"
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._inherited: Sequence[int] = ()

    @property
    def is_alive(self) -> bool:
        """Return whether any process holds the lock."""
        return not locks.is_free(self._lock)

    @property
    def notes(self) -> list[str]:
        """Return the pid and the notes of the living process, or nothing if none is alive.

        Whoever can open a lock file can hold it, so a note counts only if that process holds it.
        """
        try:
            notes = read_file(self._lock).decode().split() if self.is_alive else []
            return notes if notes and _has_open(int(notes[0]), self._lock) else []
        except (OSError, ValueError):  # another user's, or never written
            return []

    @contextlib.contextmanager
    def be_this(self) -> Iterator[Callable[[str], None]]:
        """Give the current process this name for a block, and yield a function that adds a note.

        Raises BlockingIOError if a process with this name is already alive.
        """
        descriptor = locks.acquire(self._lock, wait=False)
        try:
            _write(descriptor, str(os.getpid()))
            yield lambda note: _write(descriptor, f"{os.getpid()} {note}")
        finally:
            os.close(descriptor)

    def start(self, command: list[str], inherited: Sequence[int] = ()) -> None:
        """Start the process in its own session, so that the terminal's Ctrl-C does not reach it.

        It inherits the file descriptors `inherited`.
        """
        self._inherited = inherited
        descriptor = locks.acquire(self._lock, wait=False)
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._child = subprocess.Popen(
                    command,
                    cwd=NEUTRAL_FOLDER,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(descriptor, *inherited),
                    start_new_session=True,
                )
            _write(descriptor, str(self._child.pid))
        finally:
            os.close(descriptor)
        self._started = time.monotonic()

    def check(self) -> None:
        """Raise DigitsError with the end of the log if the process we started has ended."""
        if self._child is not None and self._child.poll() is not None:
            raise DigitsError(
                f"the {self.name} ended with exit code {self._child.returncode}; "
                f"{self.log} ends with:\n{self._end_of_log()}"
            )

    def keep_alive(self, command: list[str]) -> None:
        """Restart the process if it ended, and bound its log.

        Raises DigitsError if it ended right after its start.
        """
        self._bound_log()
        if self._child is not None and self._child.poll() is not None:
            if time.monotonic() - self._started < STEADY_SECONDS:
                self.check()
            code = self._child.returncode
            logger.warning("the %s ended with exit code %d: starting it again", self.name, code)
            self.start(command, self._inherited)

    def end(self, seconds: float, *, children_first: bool = False) -> None:
        """Terminate the process and wait for its end; kill it if that takes over `seconds`.

        With `children_first`, kill its children before, and give it time to notice their end.
        """
        if self.notes:
            pid = int(self.notes[0])
            while children_first and kill_children(pid):
                time.sleep(NOTICE_SECONDS)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._stop(pid, time.monotonic() + seconds)
        if self._child is not None:
            self._child.wait()

    def _stop(self, pid: int, deadline: float) -> None:
        os.kill(pid, signal.SIGTERM)
        while self.is_alive:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _bound_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            # The process keeps the file open and appends to it, so the file must stay. A line that
            # is written between the two calls is lost.
            shutil.copyfile(self.log, self.log.with_suffix(".1.log"))
            os.truncate(self.log, 0)

    def _end_of_log(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-5:])


def kill_holders(lock: Path, command: str) -> None:
    """Kill the processes that hold a lock and have `command` in their command line.

    Does nothing outside Linux, where the holders of a lock are unknown.
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


def kill_children(pid: int) -> bool:
    """Kill a process's children and their process groups; return whether there were any."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    )
    pairs = (map(int, line.split()) for line in listing.stdout.splitlines())
    children = [child for child, parent in pairs if parent == pid]
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    return bool(children)


def _has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open, or may have: it is another user's, or no /proc."""
    descriptors = Path("/proc", str(pid), "fd")
    if not Path("/proc/self/fd").exists():
        return True
    try:
        return any(_is_same(descriptor, path) for descriptor in descriptors.iterdir())
    except PermissionError:  # a teammate's; only root could end it
        return True


def _is_same(descriptor: Path, path: Path) -> bool:
    try:
        return descriptor.samefile(path)
    except OSError:  # closed meanwhile, or a pipe
        return False


def _write(descriptor: int, text: str) -> None:
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
