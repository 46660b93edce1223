"""The processes of a team's service, each of which may run on a machine of its own."""

import logging
import os
import sys
import threading

from digits.errors import DigitsError, UsageError
from digits.server.guard import allowed_names
from digits.settings import Settings
from flows.serving import database
from flows.serving.listening import listen, refuse_without_password
from flows.serving.migrations import NotYetError, check_migrated, migrate, revision, wait_for
from flows.serving.own_code import SETTING as REQUIRE_REGISTERED_CODE
from flows.serving.processes import Process, kill_children
from flows.serving.proxies import is_loopback
from flows.serving.service import register
from flows.serving.team import (
    api_url,
    log_by_prefect,
    prepare_client,
    prepare_server,
    require_postgresql,
    require_redis,
)

logger = logging.getLogger(__name__)

# Connections that are still open, such as those of workers, are closed after this.
CLOSE_SECONDS = 10


def serve_replica(settings: Settings, host: str, port: int) -> None:
    """Serve Prefect's API and dashboard, without background services, until a signal.

    Raises UsageError for a database other than PostgreSQL, without Redis, and for other hosts than
    loopback without a password; DigitsError if the port is taken.
    """
    refuse_without_password(host, "--host ")
    allowed_names()
    prepare_server(settings)
    wait_for(check_migrated)
    from flows.serving.web import dashboard, serve_dashboard

    app = dashboard(has_services=False)
    with listen(host, port, "--host", "--port") as listener:
        logger.info("Serving at port %d. Ctrl-C stops it.", listener.getsockname()[1])
        serve_dashboard(app, listener.detach(), timeout_graceful_shutdown=CLOSE_SECONDS)


def run_services(settings: Settings) -> None:
    """Run Prefect's background services, and notice runs of lost machines, until a signal."""
    api_url()
    redis = require_redis(settings)
    prepare_server(settings)
    wait_for(check_migrated)
    from flows.serving.lost_runs import watch

    threading.Thread(target=watch, args=[redis], daemon=True).start()
    from prefect.cli import app

    sys.argv = ["prefect", "server", "services", "start"]
    app()


def register_all() -> None:
    """Migrate the database if one is named, and register pools, deployments and automations."""
    api = api_url()
    prepare_client()
    if any(os.environ.get(name) for name in database.SETTINGS):
        require_postgresql()
        wait_for(revision)
        migrate()
        logger.info("Prefect's database is migrated")
    wait_for(lambda: check_answer(api))
    register()
    logger.info("Registered the deployments and the automations at %s", api)


def work(settings: Settings, pool: str, name: str) -> None:
    """Execute runs of a work pool until a signal, and watch them.

    Raises UsageError if a worker of this name works in this workspace already.
    """
    api = api_url()
    if not name or "/" in name or "%" in name:
        raise UsageError(f"--name {name!r} is not usable (expected a name without / and %)")
    prepare_client()
    log_by_prefect()
    os.environ[REQUIRE_REGISTERED_CODE] = "true"
    try:
        with Process(f"worker-{pool}-{name}", settings).be_this():
            wait_for(lambda: check_answer(api))
            _work(settings, pool, name)
    except BlockingIOError as error:
        raise UsageError(
            f"the worker {name} of the pool {pool} is already running in this workspace; choose "
            "another --name"
        ) from error


def _work(settings: Settings, pool: str, name: str) -> None:
    from flows.serving.watch import Owner, Watch, end_dead_runs, watch
    from flows.serving.worker import main

    owner = Owner(pool, name)
    threading.Thread(target=watch, args=[settings, owner], daemon=True).start()
    if settings.redis_url is None:
        logger.warning(
            "DIGITS_REDIS_URL is not set: if this machine is lost, its runs stay Running until a "
            "worker of the same name and workspace starts"
        )
    logger.info("Working for the pool %s as %s. Ctrl-C stops it.", pool, name)
    try:
        main(pool, name)
    finally:
        # Runs can resume after a kill, and nobody would notice the end of a run without a worker.
        kill_children(os.getpid())
        end_dead_runs(Watch(settings, owner))


def check_answer(api: str) -> None:
    """Raise NotYetError until Prefect's API answers, and DigitsError if it refuses the password."""
    import httpx

    password = os.environ.get("PREFECT_API_AUTH_STRING", "")
    try:
        answer = httpx.get(
            f"{api}/admin/version",
            auth=httpx.BasicAuth(*password.split(":", 1)) if ":" in password else None,
            timeout=10,
            trust_env=not is_loopback(api),
        )
    except httpx.HTTPError as error:
        raise NotYetError(f"{api} does not answer ({error})") from error
    if answer.status_code in (401, 403):
        raise DigitsError(
            f"{api} refuses this machine ({answer.status_code}: {answer.text.strip()[:200]}); "
            "PREFECT_API_AUTH_STRING must be the server's PREFECT_SERVER_API_AUTH_STRING, and the "
            "host name one of its DIGITS_ALLOWED_HOSTS"
        )
    if not answer.is_success:
        raise NotYetError(f"{api} answers {answer.status_code}")
