"""A Prefect server for the duration of one run, unless the environment names another server.

Prefect would start the same server itself, but later, in the terminal's process group, and without
stopping it if the run is killed. Started here, it comes up while the libraries load, does not
receive the run's Ctrl-C, ends with the run however that ends, is restarted if it dies, and keeps
its log out of the terminal.

It writes into the same database as the server of `digits up`, so that the dashboard shows runs by
hand. Each one asks for a password of its own, which only this run knows, so that nobody else on
this machine can write there.
"""

import atexit
import contextlib
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from digits.errors import DigitsError
from flows.serving.database import check_database
from flows.serving.processes import NEUTRAL_FOLDER
from flows.serving.proxies import reach_loopback_directly

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

# A new database is migrated first, which is slow on a busy machine.
STARTUP_SECONDS = 120
SHUTDOWN_SECONDS = 5
# A server that dies more often would only die again.
MAX_STARTS = 4
UNAUTHORIZED = 401
SERVER_ENVIRONMENT = {
    # As Prefect sets them for its temporary server: no dashboard, few services.
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
}


class OwnServer:
    """A server that runs until this process ends, and is restarted if it is killed.

    This object owns the socket, so connections are accepted even while the server restarts, and
    answered once it is up.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (open until the process ends)
        self.password = f"run:{secrets.token_urlsafe(32)}"
        own = {"PREFECT_SERVER_API_AUTH_STRING": self.password}
        self._environment = os.environ | SERVER_ENVIRONMENT | own
        self._is_ending = self._has_answered = False
        self._start()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        threading.Thread(target=self._keep, daemon=True).start()
        # Prefect sends its last events and logs before atexit functions are called.
        atexit.register(self._stop)

    def has_answered(self) -> None:
        """Note that the server was up; one that never was is not restarted: it would fail again."""
        self._has_answered = True

    def reason(self) -> str | None:
        """Return the last error that the server wrote, or None."""
        self._output.seek(0)
        written = self._output.read().decode(errors="replace")
        reasons = re.findall(r"^[\w.]+Error: .*", written, re.MULTILINE)
        return reasons[-1] if reasons else None

    def _start(self) -> None:
        descriptor = self._listening.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.serving.web", "run", str(descriptor)],
            cwd=NEUTRAL_FOLDER,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[descriptor],
            start_new_session=True,
            env=self._environment,
        )

    def _keep(self) -> None:
        for _ in range(1, MAX_STARTS):
            code = self._process.wait()
            if self._is_ending or not self._has_answered:
                break
            logger.warning(
                "this run's Prefect server ended with exit code %d: starting it again", code
            )
            self._start()
        self._process.wait()
        self._listening.close()

    def _stop(self) -> None:
        self._is_ending = True
        try:
            self._process.communicate(timeout=SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def prefect_server() -> Iterator[Callable[[], None]]:
    """Use the server that PREFECT_API_URL names, or start one, for the flows of a block.

    Enter the block before Prefect is imported, and call the yielded function before a flow runs:
    it returns once the server answers. Raises DigitsError if no server answers, if it is lost, or
    if it could not use its database.
    """
    # Report a lost server once, not for every log line that can no longer be sent to it.
    logging.raiseExceptions = False
    own = None
    if not os.environ.get("PREFECT_API_URL"):
        check_database()
        logger.info("starting Prefect's server for this run")
        own = OwnServer()
        os.environ["PREFECT_API_URL"] = own.url
        os.environ["PREFECT_API_AUTH_STRING"] = own.password
    try:
        yield lambda: _wait(own)
    except Exception as error:
        import httpx

        if not isinstance(error, httpx.TransportError):
            raise
        raise DigitsError(
            f"Prefect's server at {os.environ['PREFECT_API_URL']} was lost ({error}); finished "
            "steps are kept: run again when the server is back"
        ) from error


def _wait(own: OwnServer | None) -> None:
    """Wait until the server answers, and check that it lets this run in."""
    from prefect.client.orchestration import get_client

    reach_loopback_directly()
    with get_client(sync_client=True, httpx_settings={"timeout": STARTUP_SECONDS}) as client:
        error = client.api_healthcheck()
        if error is None:
            _check_password(client)
    if error is None:
        if own is not None:
            own.has_answered()
        return
    if own is None:
        raise DigitsError(
            f"no Prefect server answers at PREFECT_API_URL={os.environ['PREFECT_API_URL']} "
            f"({error}); start that server, or unset the variable so that each run starts its own"
        )
    raise DigitsError(
        f"Prefect's server did not start ({own.reason() or error}); run again, or "
        "start one with `prefect server start` and set PREFECT_API_URL to its address"
    )


def _check_password(client: "SyncPrefectClient") -> None:
    """Raise DigitsError if the server does not let this run in: its health is public."""
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        client.hello()
    except PrefectHTTPStatusError as error:
        if error.response.status_code != UNAUTHORIZED:
            raise
        raise DigitsError(
            f"Prefect's server at {os.environ['PREFECT_API_URL']} asks for a password; set "
            "PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING"
        ) from error
