"""A real Prefect server for commands in processes of their own, and the environment these need."""

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

from digits.settings import Settings
from flows.environment import prepare_environment

# Seconds to wait for its start, on two busy cores.
PATIENCE = 120


def is_ours(variable: str) -> bool:
    """Return whether the command line may set this environment variable."""
    return variable.startswith(("DIGITS_", "DO_NOT_TRACK", "GX_", "KERAS_", "PREFECT_", "TF_"))


@contextlib.contextmanager
def prefect_server(home: Path, host: str = "127.0.0.1") -> Iterator[Mapping[str, str]]:
    """Run a server during a block; yield the environment variables of commands that use it."""
    port = _free_port(host)
    shared = _defaults(Settings(artifacts_dir=home)) | {
        "PREFECT_API_URL": f"http://{host}:{port}/api",
        "PREFECT_HOME": str(home),
    }
    # Each workspace keeps Prefect's values itself.
    shared.pop("PREFECT_LOCAL_STORAGE_PATH")
    log = home / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start", "--no-services"),
                *("--host", host, "--port", str(port)),
            ],
            env=os.environ | shared,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _await_health(f"{shared['PREFECT_API_URL']}/health", server, log)
        yield shared
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


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


def _await_health(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.2)
    raise AssertionError(f"the Prefect server did not start: {log.read_text()}")


def _free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
    return port
