"""The server that a run starts if no other is configured: it starts and stops with the run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import patch

import httpx
import pytest

from digits.errors import DigitsError
from digits.settings import ROOT, Settings
from flows.serving import embedded_server
from flows.serving.embedded_server import prefect_server
from tests.flows.conftest import REQUEST
from tests.support.commands import run_digits

# Starts a server and prints its pid.
OWNER = """
import os, subprocess, sys
from flows.serving import embedded_server
start = subprocess.Popen
def spy(*arguments, **options):
    process = start(*arguments, **options)
    print(process.pid, flush=True)
    return process
embedded_server.subprocess.Popen = spy
with embedded_server.prefect_server() as wait:
    print(os.environ["PREFECT_API_URL"], flush=True)
    if "wait" in sys.argv:
        wait()
        print("it answers", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(settings: Settings, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """A process with its own server; `request.param` contains its arguments."""
    settings.artifacts_dir.mkdir()
    home = {"PREFECT_HOME": str(settings.artifacts_dir), "PREFECT_API_URL": ""}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, *getattr(request, "param", ())],
        cwd=ROOT,
        env=os.environ | home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_until_gone(pid: int) -> None:
    """Return once no process has this pid. It is not our child, so we need not reap it."""
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(0.05)


@pytest.mark.timeout(120)
def test_the_server_ends_with_a_killed_run(owner: "subprocess.Popen[str]") -> None:
    server = int(next_line(owner))
    os.kill(server, 0)
    owner.kill()
    wait_until_gone(server)


def test_the_server_is_not_in_the_runs_process_group_or_session(
    owner: "subprocess.Popen[str]",
) -> None:
    server = int(next_line(owner))
    assert os.getpgid(server) != os.getpgid(owner.pid)
    assert os.getsid(server) != os.getsid(owner.pid)


def test_the_server_listens_on_the_loopback_address_only(owner: "subprocess.Popen[str]") -> None:
    next_line(owner)
    assert next_line(owner).startswith("http://127.0.0.1:")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("owner", [("wait",)], indirect=True)
def test_a_killed_server_is_restarted_at_the_same_address(
    owner: "subprocess.Popen[str]",
) -> None:
    server, url = int(next_line(owner)), next_line(owner)
    assert next_line(owner) == "it answers"
    os.kill(server, signal.SIGKILL)

    assert int(next_line(owner)) != server
    assert httpx.get(f"{url}/health", timeout=120).json() is True


def test_a_configured_server_is_used_and_none_is_started(prefect_api: str) -> None:
    with (
        patch.dict(os.environ, {"PREFECT_API_URL": prefect_api}),
        patch.object(embedded_server, "OwnServer", side_effect=AssertionError),
        prefect_server() as wait,
    ):
        wait()
        assert os.environ["PREFECT_API_URL"] == prefect_api


def test_a_lost_server_is_explained() -> None:
    url = "http://127.0.0.1:9/api"
    with (
        patch.dict(os.environ, {"PREFECT_API_URL": url}),
        pytest.raises(DigitsError, match=f"Prefect's server at {url} was lost .gone."),
        prefect_server(),
    ):
        raise httpx.ConnectError("gone")


def test_other_errors_pass_through_unchanged() -> None:
    with (
        patch.dict(os.environ, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}),
        pytest.raises(ZeroDivisionError),
        prefect_server(),
    ):
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(small_dataset: Settings) -> None:
    database = "sqlite+aiosqlite:////proc/self/no.db"
    result = run_digits(
        small_dataset, "run", *REQUEST, PREFECT_SERVER_DATABASE_CONNECTION_URL=database
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: Prefect's server did not start (")
    assert "unable to open database file" in last
