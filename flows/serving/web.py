"""The web servers: Prefect's with its dashboard, that of a run by hand, the pages, the models.

`python -m flows.serving.web KIND SOCKET` serves on a listening socket that it inherits, so
that its port was known to be free before, and stays taken while a server restarts.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from digits.errors import DigitsError
from digits.server.guard import Guard, allowed_names
from digits.server.own_user import OwnUserProtocol
from digits.settings import Settings
from digits.storage.references import Kind, Reference
from digits.storage.store import Store
from flows.serving.database import name_database
from flows.serving.installed_prefect import provide_dashboard_folder
from flows.serving.listening import PASSWORD_SETTING

# The kinds of bundles that are served to browsers; the dashboard links to them.
PAGES: tuple[Kind, ...] = ("reports", "validations")
# Prefect's dashboard draws with inline styles. Pictures from
# elsewhere are refused: a label or file name could name one.
DASHBOARD_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
PAGES_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
LOGS: Mapping[str, Any] = {"log_level": "info", "access_log": False}


class Pages(StaticFiles):
    """The pages of one kind of bundle: no listings, and no other files."""

    def __init__(self, kind: Kind, store: Store) -> None:
        super().__init__(directory=store.root(kind), check_dir=False)
        self._kind, self._store = kind, store

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a page, or with 404."""
        if not path.endswith(".html"):
            raise HTTPException(404)
        if self._store.is_shared:
            await asyncio.to_thread(self._fetch, path.partition("/")[0])
        return await super().get_response(path, scope)

    def _fetch(self, digest: str) -> None:
        """Download a bundle that another machine has made."""

        class Page(Reference):
            kind: ClassVar[Kind] = self._kind

        with contextlib.suppress(ValidationError, DigitsError):
            self._store.folder(Page(digest=digest))


def dashboard(*, has_services: bool = True) -> ASGIApp:
    """Prefect's server with the dashboard, with or without its background services."""
    name_database()
    provide_dashboard_folder()
    from prefect.server.api.server import create_app

    from flows.serving.sqlite import wait_for_writers

    wait_for_writers()
    app = create_app(final=True, webserver_only=not has_services)
    if not has_services:
        _answer_while_away(app)
    return Guard(app, names=allowed_names(), policy=DASHBOARD_POLICY)


def _answer_while_away(app: Any) -> None:
    """Answer 503 while Redis or PostgreSQL is away.

    Prefect's clients repeat such requests, and no run fails; its own answer, 500, ends the run.
    """
    from asyncpg import exceptions as postgresql  # type: ignore[import-untyped]
    from redis.exceptions import RedisError
    from sqlalchemy.exc import InterfaceError, OperationalError

    def answer(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"PostgreSQL or Redis is away, try again: {error}\n", 503)

    for kind in (
        RedisError,
        OSError,
        postgresql.PostgresConnectionError,
        postgresql.OperatorInterventionError,  # it shuts down, or starts
        postgresql.InterfaceError,
        InterfaceError,
        OperationalError,
    ):
        app.api_app.add_exception_handler(kind, answer)


def run_server() -> ASGIApp:
    """Prefect's server for one run, which no browser may use."""
    name_database()
    from prefect.server.api.server import create_app

    from flows.serving.sqlite import wait_for_writers

    wait_for_writers()
    return Guard(create_app(), has_pages=False)


def pages(settings: Settings) -> ASGIApp:
    """The reports and validations of a workspace."""
    store = Store(settings)
    routes = [Mount(f"/{kind}", Pages(kind, store)) for kind in PAGES]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # a redirect would tell which folders there are
    return Guard(app, names=allowed_names(), policy=PAGES_POLICY)


def serve(app: ASGIApp, descriptor: int, **options: Any) -> None:
    """Serve an app on a listening socket until a signal, for this user and root."""
    config = uvicorn.Config(app, server_header=False, **{"http": OwnUserProtocol, **options})
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def main(kind: str, descriptor: str) -> None:
    """Serve one of the apps."""
    if kind == "run":
        threading.Thread(target=_end_with_input, daemon=True).start()
        serve(run_server(), int(descriptor), lifespan="on", log_level="error")
    elif kind == "dashboard":
        serve_dashboard(dashboard(), int(descriptor))
    elif kind == "models":
        serve_models(int(descriptor))
    else:
        serve(pages(Settings()), int(descriptor), **LOGS)


def serve_dashboard(app: ASGIApp, descriptor: int, **options: Any) -> None:
    """Serve a dashboard on a listening socket until a signal.

    With a password, it may be used from other machines, and by a proxy of another user.
    """
    has_password = bool(os.environ.get(PASSWORD_SETTING))
    protocol = AutoHTTPProtocol if has_password else OwnUserProtocol
    serve(app, descriptor, lifespan="on", http=protocol, **LOGS, **options)


def serve_models(descriptor: int) -> None:
    """Serve the champions of all datasets on a listening socket until a signal."""
    from digits.server.options import ServerOptions
    from digits.server.serving import serve

    settings = Settings()
    options = ServerOptions(
        settings=settings,
        names=tuple(allowed_names()),
        api_key=settings.api_key,
        sample=settings.serve_sample,
        drain_seconds=0,
    )
    serve(options, socket.socket(fileno=descriptor))


def _end_with_input() -> None:
    # The run holds the other end of the pipe and writes nothing; the kernel closes it when the run
    # ends, even after a kill -9.
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
