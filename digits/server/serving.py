"""Runs the server: one process, or several workers that are replaced when they die."""

import contextlib
import gc
import signal
import socket
import sys
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from digits.server.header_timeouts import AnyUser, OwnUser
from digits.server.metrics import shared_by_workers
from digits.server.options import ServerOptions

# Requests under way get this long to end.
END_SECONDS = 35
# Kept longer than most clients keep idle connections, so that it is the client that closes them.
KEEP_ALIVE_SECONDS = 75
LOGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "digits": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}


def serve(options: ServerOptions, listener: socket.socket, num_workers: int = 1) -> None:
    """Serve on a listening socket until a signal.

    Without a key, only this user and root are answered.
    """
    config = uvicorn.Config(
        partial(make_app, options),
        factory=True,
        workers=num_workers,
        loop="uvloop",
        http=AnyUser if options.api_key else OwnUser,
        ws="none",
        lifespan="on",
        log_config=LOGS,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
        # A worker on a busy machine is not a worker that hangs.
        timeout_worker_healthcheck=30,
    )
    if num_workers == 1:
        # After a graceful end, uvicorn raises the signal that it got once more.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
        return
    with shared_by_workers():
        Multiprocess(config, sockets=[listener]).run()


def make_app(options: ServerOptions) -> ASGIApp:
    """Return the application, in the process that runs it."""
    from digits.server.app import create_app

    app = create_app(options)
    # What exists now lives until the end: searching it for garbage again would only cost time.
    gc.collect()
    gc.freeze()
    return app
