"""A Prefect server and a process with the libraries loaded, shared by all fault tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from digits.settings import Settings
from flows.environment import prepare_environment
from tests.faults.commands import import_libraries, kill_those_left
from tests.faults.project import Copy, copy_project, is_ours
from tests.support.small_dataset import write_small_dataset


class Tally:
    """Counts the faults that a test tried, and those that the project withstood.

    The counts are properties of the test's report, so they arrive from any worker process.
    """

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    @contextlib.contextmanager
    def attempt(self, kind: str) -> Iterator[None]:
        """Count one fault, as withstood if the block succeeds."""
        self._properties.append(("tried", kind))
        yield
        self._properties.append(("held", kind))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """The fault counts of this test."""
    return Tally(request.node.user_properties)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables of a command, such as the URL of a Prefect server."""
    home = tmp_path_factory.mktemp("prefect")
    port = _free_port()
    shared = _defaults(Settings(artifacts_dir=home)) | {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(home),
    }
    import_libraries(shared)
    # Each test keeps Prefect's values in its own workspace.
    shared.pop("PREFECT_LOCAL_STORAGE_PATH")
    with _server(port, shared, home / "server.log"):
        yield shared
        kill_those_left()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Copy:
    """A copy of the project with the small dataset, before any run."""
    folder = tmp_path_factory.mktemp("pristine")
    copy = copy_project(folder, environment, ("--epochs", "1"))
    write_small_dataset(copy.settings)
    return copy


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory, pristine: Copy) -> Copy:
    """A copy of the project after a complete run. Tests work on duplicates of it."""
    copy = pristine.duplicate(tmp_path_factory.mktemp("complete"))
    copy.run()
    return copy


@pytest.fixture
def copy(complete: Copy, tmp_path: Path) -> Copy:
    """A copy of the project after a complete run, for this test only."""
    return complete.duplicate(tmp_path / "copy")


def _defaults(settings: Settings) -> dict[str, str]:
    """Return the environment variables that the command line sets for a run."""
    before = dict(os.environ)
    try:
        for name in filter(is_ours, before):
            del os.environ[name]
        prepare_environment(settings)
        return {name: os.environ[name] for name in os.environ if is_ours(name)}
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _server(port: int, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start", "--no-services"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _await_health(f"{environment['PREFECT_API_URL']}/health", server, log)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _await_health(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.2)
    raise AssertionError(f"the Prefect server did not start: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
