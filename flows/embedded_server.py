"""Prefect's own server for the length of one run, where the environment names no other.

Prefect would start the same server by itself, but later, as a part of the terminal's job, and with
no end of its own. Started here, it comes up while the libraries load, does not take the run's
Ctrl-C for its own, ends with the run however that ends, is started again if it is lost, and keeps
its log out of the terminal.
"""

import atexit
import contextlib
import logging
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

from digits.errors import DigitsError

logger = logging.getLogger(__name__)

# A new database is migrated first, which takes its time on a busy machine.
STARTUP_SECONDS = 120
SHUTDOWN_SECONDS = 5
# One that is lost more often would be lost again.
MAX_STARTS = 4
SERVER_ENVIRONMENT = {
    # As Prefect sets them for its temporary server: no dashboard, few services.
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
}


class OwnServer:
    """A server that is there until this process ends, also if it is killed itself.

    Connections are accepted as long as this object keeps the socket, and answered when a server is
    up: what is sent while one that was lost is started again waits for it.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (it lasts as long as the process)
        self._environment = os.environ | SERVER_ENVIRONMENT
        self._is_ending = self._has_answered = False
        self._start()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        threading.Thread(target=self._keep, daemon=True).start()
        # Prefect sends its last events and logs before the functions registered here are called.
        atexit.register(self._stop)

    def has_answered(self) -> None:
        """Take note that it is up: one that never was would end again, and is not kept."""
        self._has_answered = True

    def reason(self) -> str | None:
        """The last error that it wrote, if any."""
        self._output.seek(0)
        written = self._output.read().decode(errors="replace")
        reasons = re.findall(r"^[\w.]+Error: .*", written, re.MULTILINE)
        return reasons[-1] if reasons else None

    def _start(self) -> None:
        descriptor = self._listening.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(descriptor)],
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
                "Prefect's server of this run ended with exit code %d: starting it again", code
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
    """The server that PREFECT_API_URL names, or one of our own, for the flows of a block.

    Enter it before Prefect is imported, and call what it gives before a flow runs: that returns
    once the server answers. Raises DigitsError when no server answers, or when it is lost.
    """
    # A server that is lost is told of once, not at every line that cannot be sent to it any more.
    logging.raiseExceptions = False
    own = None
    if not os.environ.get("PREFECT_API_URL"):
        logger.info("starting Prefect's server for this run")
        own = OwnServer()
        os.environ["PREFECT_API_URL"] = own.url
    try:
        yield lambda: _wait(own)
    except Exception as error:
        import httpx

        if not isinstance(error, httpx.TransportError):
            raise
        raise DigitsError(
            f"Prefect's server at {os.environ['PREFECT_API_URL']} was lost ({error}); every step "
            "that was finished is kept: run again when it is back"
        ) from error


def _wait(own: OwnServer | None) -> None:
    """Wait until the server answers."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True, httpx_settings={"timeout": STARTUP_SECONDS}) as client:
        error = client.api_healthcheck()
    if error is None:
        if own is not None:
            own.has_answered()
        return
    if own is None:
        raise DigitsError(
            f"no Prefect server answers at PREFECT_API_URL={os.environ['PREFECT_API_URL']} "
            f"({error}); start that server, or unset the variable: a run then has its own"
        )
    raise DigitsError(
        f"Prefect's server did not start ({own.reason() or error}); run again, or "
        "start one by hand with `prefect server start` and name it in PREFECT_API_URL"
    )


def serve(descriptor: str) -> None:
    """Be the server, on a listening socket, until the standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    # The command by which Prefect starts its temporary server, on our socket.
    sys.argv[1:] = ["--factory", "prefect.server.api.server:create_app", "--fd", descriptor]
    sys.argv += ["--lifespan", "on", "--log-level", "error"]
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)


def _end_with_input() -> None:
    # The other end of the pipe is the run's, which writes nothing: the kernel closes it, also after
    # a kill -9.
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(sys.argv[1])
