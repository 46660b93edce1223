"""`digits` commands as processes: in a fresh interpreter, or forked from one with the libraries.

Importing TensorFlow, Great Expectations and Prefect takes longer than all seven steps on a small
dataset. So processes are forked from one that has imported them, but nothing of this project.
Otherwise they are like those that a user starts: each imports the project, and exits or dies on its
own.
"""
# Does not import the project: the forked processes import a copy of it.

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    *("great_expectations", "jinja2", "keras", "matplotlib.backends.backend_agg"),
    *("matplotlib.figure", "numpy", "pandas", "prefect.artifacts", "prefect.concurrency.sync"),
    *("prefect.flow_engine", "prefect.main", "prefect.task_engine", "prefect.task_runners"),
    *("prefect.utilities.visualization", "pyarrow.compute", "pyarrow.parquet"),
    *("pydantic_settings", "rich.console", "rich.table", "scipy.stats", "tensorflow"),
)
TIMEOUT = 240.0
FRESH = "from flows.cli import main; main()"

# Called in a forked process before the project is imported.
Prelude = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """The result of a command: its exit status, and what it wrote to both streams."""

    status: int
    output: str
    log: str


class Command:
    """A running command, the leader of its own process group."""

    def __init__(self, pid: int, wait: Callable[[float], int | None], streams: Path) -> None:
        self.pid = pid
        self._wait = wait
        self._streams = streams
        _started.append(self)

    @property
    def is_running(self) -> bool:
        """Return whether the command is still running."""
        return self._wait(0) is None

    @property
    def log(self) -> str:
        """Return what the command wrote to standard error so far."""
        return _stream(self._streams, "err").read_text()

    def kill(self) -> None:
        """Send SIGKILL to every process of the group."""
        for send, whom in ((os.killpg, self.pid), (os.kill, self.pid)):
            with contextlib.suppress(ProcessLookupError):
                send(whom, signal.SIGKILL)

    def await_file(self, folder: Path, name: str, number: int = 1) -> None:
        """Wait until the folder contains at least `number` files of this name, at any depth."""
        deadline = time.monotonic() + TIMEOUT
        while len(list(folder.rglob(name))) < number:
            assert self.ended(within=0.01) is None, "the command ended before it wrote the file"
            assert time.monotonic() < deadline

    def ended(self, within: float = TIMEOUT) -> Ended | None:
        """Wait for the end and return the result, or None if it does not end in time."""
        status = self._wait(within)
        if status is None:
            return None
        return Ended(status, *(_stream(self._streams, name).read_text() for name in ("out", "err")))

    def wait(self) -> Ended:
        """Wait for the end and return the result; kill the command if it does not end."""
        ended = self.ended()
        if ended is None:
            self.kill()
            raise AssertionError(f"still running after {TIMEOUT:.0f} s: {self.log}")
        return ended


_started: list[Command] = []


def kill_those_left() -> None:
    """Kill the commands that a test did not wait for."""
    for command in _started:
        if command.is_running:
            command.kill()


def start_fresh(
    root: Path, arguments: tuple[str, ...], environment: Mapping[str, str], streams: Path
) -> Command:
    """Start a command as a user does, in its own interpreter."""
    with _stream(streams, "out").open("wb") as out, _stream(streams, "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", FRESH, *arguments],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )

    def wait(within: float) -> int | None:
        try:
            return process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    return Command(process.pid, wait, streams)


def start_forked(
    root: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    streams: Path,
    prelude: Prelude | None = None,
) -> Command:
    """Start a command in a process forked from one that has imported the libraries."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(
        target=_digits, args=(root, arguments, dict(environment), streams, prelude)
    )
    with _one_at_a_time:
        process.start()
    assert process.pid is not None

    def wait(within: float) -> int | None:
        connection.wait([process.sentinel], within)
        with _one_at_a_time:
            return process.exitcode

    return Command(process.pid, wait, streams)


# Starting a process also reaps those that have ended, and an exit status can be read only once.
_one_at_a_time = threading.Lock()


def import_libraries(environment: Mapping[str, str]) -> None:
    """Start the process to fork from, and import the libraries there in this environment."""
    # It starts with the environment of this process.
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        forkserver.set_forkserver_preload(list(LIBRARIES))
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _stream(streams: Path, name: str) -> Path:
    return streams.with_name(f"{streams.name}.{name}")


def _digits(
    root: Path,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    streams: Path,
    prelude: Prelude | None,
) -> None:
    """Run the console script on the sources in `root`."""
    os.setsid()
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(_stream(streams, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(root)
    # First, and without the checkout, from which the test process imports.
    sys.path[:] = [str(root), *(path for path in sys.path if Path(path) != CHECKOUT)]
    assert "digits" not in sys.modules
    if prelude is not None:
        prelude()
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    from flows.cli import main

    try:
        main(arguments)
    finally:
        atexit._run_exitfuncs()
