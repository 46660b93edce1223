"""The service of this machine: a Prefect server with its dashboard, the deployments, and a worker.

`digits up` keeps it up until Ctrl-C, `digits down` ends what a killed `digits up` left behind, and
`digits run` uses the server while it is there.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from digits.errors import DigitsError, UsageError
from digits.registry.garbage import runs_lock
from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from flows.processes import Process, kill_holders

logger = logging.getLogger(__name__)

PREFECT = str(Path(sys.executable).with_name("prefect"))
SERVER = [PREFECT, "server", "start"]
WORKER = [PREFECT, "worker", "start", "--pool", "digits", "--type", "process", "--name", "local"]
REGISTRATION = [sys.executable, "-m", "flows.registration"]
# What of the store a browser may see; the dashboard links to it.
PAGES = ("reports", "validations")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PARTS = ("server", "worker", "pages")
# The first start makes a database; on a busy machine that takes its time.
START_SECONDS = 180
END_SECONDS = 20


def up(settings: Settings) -> None:
    """Start the service and keep it up until a signal ends it; only say so if it is up already.

    Raises DigitsError when a part of it does not start, or does not stay up.
    """
    api = prepare_service()
    try:
        with Process("service", settings).be_this() as note, _signals_interrupt():
            try:
                _end_parts(settings)
                _keep_up(settings, api, note)
            except KeyboardInterrupt:
                logger.info("Ending the worker, its runs and the server")
            finally:
                _end_parts(settings)
    except BlockingIOError:
        logger.info("It is up already, or about to be: %s", api_address(settings) or api)


def down(settings: Settings) -> None:
    """End the service, or what is left of it."""
    service = Process("service", settings)
    parts = [Process(name, settings) for name in PARTS]
    alive = [part.name for part in (service, *parts) if part.is_alive]
    service.end(3 * END_SECONDS)
    _end_parts(settings)
    logger.info("Ended: %s", ", ".join(alive) or "nothing, since nothing was up")


def api_address(settings: Settings) -> str | None:
    """Where the service's API is; None unless it is up."""
    notes = Process("service", settings).notes
    return notes[1] if len(notes) > 1 else None


def page_address(path: Path) -> str | None:
    """Where a browser finds a page that lies in the store; None unless the service is up."""
    settings = Settings()
    api = api_address(settings)
    return api and f"{_pages_address(api)}/{path.relative_to(settings.artifacts_dir)}"


def prepare_service() -> str:
    """Set what the server and the worker must find in the environment; the API's address.

    Raises UsageError if everybody could reach the server and nobody would have to log in.
    """
    host = os.environ.setdefault("PREFECT_SERVER_API_HOST", "127.0.0.1")
    port = os.environ.setdefault("PREFECT_SERVER_API_PORT", "4200")
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if host not in LOOPBACK and not password:
        raise UsageError(
            f"PREFECT_SERVER_API_HOST is {host}, where others can reach it, and no "
            "PREFECT_SERVER_API_AUTH_STRING is set: they could start and delete what they like; "
            "docs/operate.md says how to expose the dashboard"
        )
    api = f"http://{f'[{host}]' if ':' in host else host}:{port}/api"
    defaults = {
        "PREFECT_API_URL": api,
        # Relative, so that the dashboard works by whatever name a browser reaches it.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # The second version of the dashboard reports each visit to its makers' statistics.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # In memory, the turns of the runs under way would be lost with a server that is started
        # again, and the runs would be stopped for it.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Each waits twice as long as the one before: what a run asks of a server that is away for
        # some minutes is answered when it is back.
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        # The least there can be; automations.yaml says what a missing beat means.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        **({"PREFECT_API_AUTH_STRING": password} if password else {}),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # In a terminal these lines would be in the way of ours; here they are what the logs are for.
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    os.environ["PREFECT_LOGGING_INTERNAL_LEVEL"] = "ERROR"
    return api


def _keep_up(settings: Settings, api: str, note: Callable[[str], None]) -> None:
    server, worker, pages = (Process(name, settings) for name in PARTS)
    commands = {server: SERVER, worker: WORKER, pages: _pages_command(settings, api)}
    logger.info("Starting the server; its log is %s", server.log)
    server.start(SERVER)
    _await_health(api, server)
    logger.info("Registering the deployments and the automations")
    _register()
    worker.start(WORKER)
    pages.start(commands[pages])
    note(api)
    logger.info(
        "The dashboard is at %s. Ctrl-C ends it. To start a run from another terminal:\n"
        "  PREFECT_API_URL=%s %s deployment run retrain/retrain",
        api.removesuffix("/api"),
        api,
        PREFECT,
    )
    while True:
        time.sleep(1)
        for process, command in commands.items():
            process.keep_alive(command)


def _pages_address(api: str) -> str:
    """Pages have the port after the server's, on the loopback address whatever the server's is."""
    return f"http://127.0.0.1:{int(api.removesuffix('/api').rpartition(':')[2]) + 1}"


def _pages_command(settings: Settings, api: str) -> list[str]:
    folder = settings.artifacts_dir / "pages"
    folder.mkdir(exist_ok=True)
    for name in PAGES:
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(Path("..") / name)
    host, port = _pages_address(api).removeprefix("http://").split(":")
    return [sys.executable, "-m", "http.server", "--bind", host, "--directory", str(folder), port]


def _await_health(api: str, server: Process) -> None:
    import httpx

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        server.check()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{api}/health", timeout=5).is_success:
                return
        time.sleep(0.5)
    raise DigitsError(f"{api} did not answer within {START_SECONDS} seconds; see {server.log}")


def _register() -> None:
    done = subprocess.run(
        REGISTRATION,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DigitsError(f"the deployments could not be registered:\n{done.stdout}{done.stderr}")


def _end_parts(settings: Settings) -> None:
    """End all of it, whoever started it. The runs are killed: they can bear that."""
    for name in ("worker", "pages", "server"):
        Process(name, settings).end(END_SECONDS, children_first=name == "worker")
    # Runs outlive a worker that was killed.
    kill_holders(runs_lock(Workspace(settings)), "prefect.engine")


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let the signals that end a service end the block by KeyboardInterrupt, but only once."""

    def interrupt(*_: Any) -> None:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # The first two also where they are ignored, as a shell has it for what it runs in the
    # background: the processes started here would ignore them, too. Under nohup the third stays so.
    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    for number in caught:
        signal.signal(number, interrupt)
    yield
