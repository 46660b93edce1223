"""Prefect's own server for the length of one run, where the environment names no other.

Prefect would start the same server by itself, but later, as a part of the terminal's job, and with
no end of its own. Started here, it comes up while the libraries load, does not take the run's
Ctrl-C for its own, ends with the run however that ends, and keeps its log out of the terminal.
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
from typing import IO

from digits.errors import DigitsError

logger = logging.getLogger(__name__)

# A new database is migrated first, which takes its time on a busy machine.
STARTUP_SECONDS = 120
SHUTDOWN_SECONDS = 5
SERVER_ENVIRONMENT = {
    # As Prefect sets them for its temporary server: no dashboard, few services.
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
}


@contextlib.contextmanager
def prefect_server() -> Iterator[Callable[[], None]]:
    """The server that PREFECT_API_URL names, or one of our own, for the flows of a block.

    Enter it before Prefect is imported, and call what it gives before a flow runs: that returns
    once the server answers. Raises DigitsError when no server answers, or when it is lost.
    """
    # A server that is lost is told of once, not at every line that cannot be sent to it any more.
    logging.raiseExceptions = False
    output = None if os.environ.get("PREFECT_API_URL") else _start()
    try:
        yield lambda: _wait(output)
    except Exception as error:
        import httpx

        if not isinstance(error, httpx.TransportError):
            raise
        raise DigitsError(
            f"Prefect's server at {os.environ['PREFECT_API_URL']} was lost ({error}); every step "
            "that was finished is kept: run again when it is back"
        ) from error


def _start() -> IO[bytes]:
    """Start a server in the background, to end with this process; returns what it writes to."""
    logger.info("starting Prefect's server for this run")
    output = tempfile.TemporaryFile()  # noqa: SIM115  (it lasts as long as the process)
    # Connections are accepted from now on, and answered when the server is up.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(listening.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[listening.fileno()],
            start_new_session=True,
            env=os.environ | SERVER_ENVIRONMENT,
        )
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
    # Prefect sends its last events and logs before the functions registered here are called.
    atexit.register(_stop, process)
    return output


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.communicate(timeout=SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(output: IO[bytes] | None) -> None:
    """Wait until the server answers."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True, httpx_settings={"timeout": STARTUP_SECONDS}) as client:
        error = client.api_healthcheck()
    if error is None:
        return
    if output is None:
        raise DigitsError(
            f"no Prefect server answers at PREFECT_API_URL={os.environ['PREFECT_API_URL']} "
            f"({error}); start that server, or unset the variable: a run then has its own"
        )
    output.seek(0)
    reasons = re.findall(r"^[\w.]+Error: .*", output.read().decode(errors="replace"), re.MULTILINE)
    raise DigitsError(
        f"Prefect's server did not start ({reasons[-1] if reasons else error}); run again, or "
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
