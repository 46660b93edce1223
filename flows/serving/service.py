"""The service on this machine: Prefect's server, the deployments, a worker, and the model server.

`digits up` keeps it running until Ctrl-C, `digits down` stops what a killed `digits up` left
running, and `digits run` uses the server while it is up.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from digits.errors import DigitsError
from digits.registry.garbage import runs_lock
from digits.server.guard import allowed_names
from digits.settings import Settings
from digits.storage.workspace import Workspace
from flows.serving.database import check_database, move_database_aside
from flows.serving.listening import (
    HOST_SETTING,
    PASSWORD_SETTING,
    configured_port,
    listen,
    refuse_without_password,
)
from flows.serving.pools import LOCAL_WORKER, POOL
from flows.serving.processes import NEUTRAL_FOLDER, Process, kill_holders

logger = logging.getLogger(__name__)

PREFECT = str(Path(sys.executable).with_name("prefect"))
WEB = [sys.executable, "-P", "-m", "flows.serving.web"]
WORKER = [sys.executable, "-P", "-m", "flows.serving.worker"]
# What the worker starts for each run.
RUN = "flows.serving.execution"
REGISTRATION = [sys.executable, "-P", "-m", "flows.serving.registration"]
PARTS = ("server", "worker", "pages", "model-server")
# How the dashboard is shown.
DASHBOARD = {
    # Relative, so that the dashboard works under any host name.
    "PREFECT_SERVER_UI_API_URL": "/api",
    # Version 2 of the dashboard reports each visit to its vendor's analytics service.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
# Each retry waits twice as long as the one before, so that a run survives a server that is away for
# some minutes.
CLIENT = {"PREFECT_CLIENT_MAX_RETRIES": "8"}
# The first start creates a database, which is slow on a busy machine.
START_SECONDS = 180
END_SECONDS = 20


def up(settings: Settings, *, has_new_database: bool = False) -> None:
    """Start the service and keep it running until a signal; if it is already up, only say so.

    Raises DigitsError if a port is taken, if the database cannot be used, or if a part does not
    start or does not stay up.
    """
    api = prepare_service()
    try:
        with Process("service", settings).be_this() as note, _signals_interrupt():
            try:
                _end_parts(settings)
                if has_new_database:
                    _start_new_database()
                check_database()
                with listening() as sockets:
                    _keep_up(settings, api, sockets, note)
            except KeyboardInterrupt:
                logger.info("Stopping the worker, its runs and the server")
            finally:
                _end_parts(settings)
    except BlockingIOError:
        logger.info("The service is already up or starting: %s", api_address(settings) or api)


def down(settings: Settings) -> None:
    """Stop the service, or what is left of it."""
    service = Process("service", settings)
    parts = [Process(name, settings) for name in PARTS]
    alive = [part.name for part in (service, *parts) if part.is_alive]
    service.end(3 * END_SECONDS)
    _end_parts(settings)
    logger.info("Stopped: %s", ", ".join(alive) or "nothing; the service was not up")


def api_address(settings: Settings) -> str | None:
    """Return the URL of the service's API, or None if the service is not up."""
    notes = Process("service", settings).notes
    return notes[1] if len(notes) > 1 else None


def page_address(path: Path) -> str | None:
    """Return the URL of a page in the store, or None if the service is not up."""
    settings = Settings()
    api = api_address(settings)
    return api and f"{_pages_address(api)}/{path.relative_to(settings.results_dir)}"


def models_address(api: str) -> str:
    """Return the URL of the model server, which is up while the service is: always loopback."""
    return f"http://127.0.0.1:{_port_of(api) + 2}"


def prepare_service() -> str:
    """Set environment variables for the server and the worker, and return the API's URL.

    Raises UsageError if the port cannot be one, if a host name is invalid, or if other machines
    could reach the server without a password.
    """
    host = os.environ.setdefault(HOST_SETTING, "127.0.0.1")
    port = configured_port()
    allowed_names()
    refuse_without_password(host)
    password = os.environ.get(PASSWORD_SETTING)
    api = f"http://{f'[{host}]' if ':' in host else host}:{port}/api"
    defaults = {
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": api.removesuffix("/api"),
        **DASHBOARD,
        **CLIENT,
        # In memory, the concurrency slots of active runs would be lost when the server restarts,
        # and the runs would be stopped.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "flows.serving.event_order",
        **({"PREFECT_API_AUTH_STRING": password} if password else {}),
        # The dashboard's pages of champions link there.
        "DIGITS_SERVE_URL": models_address(api),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # In a terminal these lines would clutter ours; the service writes them to its log files.
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    os.environ["PREFECT_LOGGING_INTERNAL_LEVEL"] = "ERROR"
    return api


def _start_new_database() -> None:
    aside = move_database_aside()
    logger.info("The old database is now %s", aside or "nowhere: there was none")


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, ...]]:
    """Listen at the addresses of the server, the pages and the model server during a block.

    The servers inherit the sockets. Raises DigitsError if one is taken.
    """
    host, port = os.environ[HOST_SETTING], configured_port()
    with (
        listen(host, port) as server,
        listen("127.0.0.1", port + 1) as pages,
        listen("127.0.0.1", port + 2) as models,
    ):
        yield server, pages, models


def _keep_up(
    settings: Settings,
    api: str,
    sockets: tuple[socket.socket, ...],
    note: Callable[[str], None],
) -> None:
    server, worker, pages, models = (Process(name, settings) for name in PARTS)
    for_server, for_pages, for_models = (one.fileno() for one in sockets)
    commands = {
        server: [*WEB, "dashboard", str(for_server)],
        worker: WORKER,
        pages: [*WEB, "pages", str(for_pages)],
        models: [*WEB, "models", str(for_models)],
    }
    logger.info("Starting the server; its log is %s", server.log)
    server.start(commands[server], [for_server])
    _await_health(api, server)
    logger.info("Registering the deployments and the automations")
    register()
    worker.start(WORKER)
    pages.start(commands[pages], [for_pages])
    models.start(commands[models], [for_models])
    _watch(settings)
    note(api)
    logger.info(
        "The dashboard is at %s, the model server at %s. Ctrl-C stops the service. To start a run "
        "from another terminal:\n"
        "  PREFECT_API_URL=%s %s deployment run retrain/retrain",
        api.removesuffix("/api"),
        models_address(api),
        api,
        PREFECT,
    )
    while True:
        time.sleep(1)
        for process, command in commands.items():
            process.keep_alive(command)


def _watch(settings: Settings) -> None:
    """Watch the runs in the background for as long as this process lives."""
    # Prefect reads its settings when it is imported.
    from flows.serving.watch import Owner, watch

    owner = Owner(POOL, LOCAL_WORKER, is_only=True)
    threading.Thread(target=watch, args=[settings, owner], daemon=True).start()


def _pages_address(api: str) -> str:
    """Return the URL of the pages: always loopback, at the port after the server's."""
    return f"http://127.0.0.1:{_port_of(api) + 1}"


def _port_of(api: str) -> int:
    return int(api.removesuffix("/api").rpartition(":")[2])


def _await_health(api: str, server: Process) -> None:
    import httpx

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        server.check()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{api}/health", timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.5)
    raise DigitsError(f"{api} did not answer within {START_SECONDS} seconds; see {server.log}")


def register() -> None:
    """Register deployments and automations in a process of its own. Raises DigitsError."""
    done = subprocess.run(
        REGISTRATION,
        cwd=NEUTRAL_FOLDER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DigitsError(f"cannot register the deployments:\n{done.stdout}{done.stderr}")


def _end_parts(settings: Settings) -> None:
    """Stop all parts, whoever started them, and kill the runs, which can resume after a kill."""
    for name in ("worker", "model-server", "pages", "server"):
        Process(name, settings).end(END_SECONDS, children_first=name == "worker")
    # Runs outlive a killed worker.
    kill_holders(runs_lock(Workspace(settings)), RUN)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block at the first SIGINT, SIGTERM or SIGHUP."""

    def interrupt(*_: Any) -> None:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # Catch SIGINT and SIGTERM even if they are ignored, as in a shell's background jobs: otherwise
    # the processes started here would ignore them, too. SIGHUP stays ignored under nohup.
    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    for number in caught:
        signal.signal(number, interrupt)
    yield
