"""A real service, started as an operator starts it, with a small dataset in its own folders."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from digits.settings import ROOT, Settings
from digits.storage.locks import is_free
from tests.support.small_dataset import NAME, SPEC, write_small_dataset, write_spec
from tests.support.waiting import PATIENCE, wait_for

BIN = Path(sys.executable).parent
# A dataset with the same images, whose spec expects more than there are.
SPOILED = "spoiled"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600))


class Service:
    """`digits up` with its own ports and folders, and operations on it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.settings = Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts")
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "up.log"
        self.cwd: Path = ROOT
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            "DIGITS_DATA_DIR": str(self.settings.data_dir),
            "DIGITS_ARTIFACTS_DIR": str(self.settings.artifacts_dir),
            "PREFECT_SERVER_API_PORT": str(self.port),
            # Poll for work more often than an operator would.
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            **environment,
        }
        self._auth = environment.get("PREFECT_SERVER_API_AUTH_STRING")
        self.http = httpx.Client(
            base_url=f"{self.url}/api",
            timeout=30,
            transport=httpx.HTTPTransport(retries=3),
            auth=httpx.BasicAuth(*self._auth.split(":")) if self._auth else None,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.steady_since = 0.0

    def up(self) -> None:
        """Start the service and wait until it reports that it is up."""
        already_said = len(self.said())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "digits", "up"], env=self._environment, cwd=self.cwd, stdout=log, stderr=log
            )

        def is_up() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            return "The dashboard is at" in self.said()[already_said:]

        wait_for(is_up, "the service to be up")
        self.steady_since = time.monotonic()

    def signal(self, number: int) -> int:
        """Send a signal to `digits up`, wait for its end and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=120)

    def said(self) -> str:
        """Return what `digits up` printed so far."""
        return self.log.read_text() if self.log.exists() else ""

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment to its end, as in another terminal."""
        return subprocess.run(
            [BIN / command[0], *command[1:]],
            env={**self._environment, **environment},
            cwd=self.cwd,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def register(self) -> subprocess.CompletedProcess[str]:
        """Register the deployments again, as `digits up` does."""
        return self.run("python", "-m", "flows.serving.registration", **self._api())

    def prefect(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a `prefect` command against the server, without prompts."""
        return self.run("prefect", "--no-prompt", *command, **self._api())

    def _api(self) -> dict[str, str]:
        return {
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_HOME": str(self.settings.artifacts_dir / "prefect"),
            **({"PREFECT_API_AUTH_STRING": self._auth} if self._auth else {}),
        }

    def is_alive(self, name: str) -> bool:
        """Return whether a process of the service is alive: service, server, worker or pages."""
        return not is_free(self._lock(name))

    def pid(self, name: str) -> int:
        """Return the pid of a living process of the service."""
        return int(self._lock(name).read_text().split()[0])

    def kill(self, name: str) -> None:
        """Kill a process of the service with SIGKILL."""
        os.kill(self.pid(name), signal.SIGKILL)
        if name == "service" and self._process is not None:
            self._process.wait()
        self.steady_since = time.monotonic()

    def _lock(self, name: str) -> Path:
        return self.settings.artifacts_dir / "locks" / f"{name}.lock"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the API's answer; retry while the server is too busy or restarting."""

        def answer() -> httpx.Response | None:
            with contextlib.suppress(httpx.TransportError):
                found = self.http.request(method, path, json=body)
                return found if found.status_code != 503 else None
            return None

        found = wait_for(answer, f"an answer of {path}")
        found.raise_for_status()
        return found.json() if found.content else None

    def post(self, path: str, body: Any) -> Any:
        """Return the API's answer to a POST."""
        return self.ask("POST", path, body)

    def deployment(self, name: str) -> Any:
        """Return a deployment from the server."""
        return self.ask("GET", f"deployments/name/{name}/{name}")

    def start(self, deployment: str, *parameters: str) -> str:
        """Start a run from the command line and return its id."""
        options = [part for parameter in parameters for part in ("-p", parameter)]
        done = self.prefect("deployment", "run", f"{deployment}/{deployment}", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(
            line.split("UUID:")[1].strip() for line in done.stdout.splitlines() if "UUID:" in line
        )

    def runs(self, deployment: str = "retrain") -> list[Any]:
        """Return all runs of a flow, newest first, without those that are only scheduled."""
        found = self.post(
            "flow_runs/filter",
            {"sort": "EXPECTED_START_TIME_DESC", "flows": {"name": {"any_": [deployment]}}},
        )
        return [run for run in found if not run["auto_scheduled"] or run["start_time"]]

    def flow_run(self, run: str) -> Any:
        """Return a run from the server."""
        return self.ask("GET", f"flow_runs/{run}")

    def state(self, run: str) -> str:
        """Return the name of a run's state."""
        return str(self.flow_run(run)["state_name"])

    def finished(self, run: str, seconds: float = PATIENCE) -> str:
        """Wait for a run's end and return the name of its final state."""
        ends = {"Completed", "Failed", "Crashed", "Cancelled"}
        wait_for(lambda: self.state(run) in ends, f"{run} to end", seconds)
        return self.state(run)

    def artifact(self, key: str, run: str | None = None) -> Any:
        """Return the newest dashboard artifact with a key, optionally of one run, or None."""
        found = self.artifacts(key)
        return next((one for one in found if run in (None, one["flow_run_id"])), None)

    def artifacts(self, key: str) -> list[Any]:
        """Return all dashboard artifacts with a key, newest first."""
        asked = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        return list(self.post("artifacts/filter", asked))

    def end(self) -> None:
        """Stop everything, whatever its state."""
        with contextlib.suppress(Exception):
            self.run("digits", "down")
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.http.close()


def free_ports() -> int:
    """Return a free port whose next two ports are also free.

    None of those that systems hand out: another process could get it before the service starts.
    """
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for one in range(port, port + 3):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", one))
            return port


class Webhook(ThreadingHTTPServer):
    """A server that collects the service's notifications."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WebhookHandler)
        self.told: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"

    def of(self, event: str, run: str = "") -> list[dict[str, Any]]:
        return [one for one in self.told if one["event"] == event and run in json.dumps(one)]


class WebhookHandler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="session")
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Create services with the small dataset, not started yet; they stop with the test."""
    made: list[Service] = []

    def make(**environment: str) -> Service:
        made.append(Service(tmp_path, **environment))
        write_small_dataset(made[-1].settings)
        return made[-1]

    yield make
    for service in made:
        service.end()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, webhook: Webhook) -> Iterator[Service]:
    """A running service for all tests that leave it running."""
    service = Service(tmp_path_factory.mktemp("service"), DIGITS_WEBHOOK_URL=webhook.url)
    write_small_dataset(service.settings)
    expectation = "[thresholds.train]\nnum_images = 6000\n"
    spoiled = write_spec(
        service.settings, SPEC.replace("[thresholds.train]\n", expectation), SPOILED
    )
    raw = service.settings.raw_dir
    (raw / spoiled.stem).symlink_to(raw / NAME)
    service.up()
    yield service
    service.end()


@pytest.fixture(autouse=True)
def one_after_another(request: pytest.FixtureRequest) -> None:
    """Wait for the runs of earlier tests: otherwise the runs of this test would be cancelled."""
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        active = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
        wait_for(
            lambda: service.post("flow_runs/count", {"flow_runs": active}) == 0,
            "the runs of earlier tests to end",
        )


@pytest.fixture(scope="session")
def first(service: Service) -> str:
    """The id of a finished run of both models, the second run on its dataset."""
    worse = service.start("retrain", f"dataset={NAME}", 'models=["mlp"]', "epochs=1")
    assert service.finished(worse) == "Completed"
    run = service.start("retrain", f"dataset={NAME}")
    assert service.finished(run) == "Completed"
    return run
