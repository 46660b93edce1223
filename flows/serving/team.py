"""Prefect's server for a team: replicas on PostgreSQL, which talk to each other by Redis.

An operator names the two once; what Prefect wants to know about them is derived here.
"""

import importlib.util
import logging
import os
from collections.abc import Mapping

from digits.errors import UsageError
from digits.server.guard import allowed_names
from digits.settings import Settings
from flows.serving import database
from flows.serving.installed_prefect import provide_dashboard_folder
from flows.serving.listening import PASSWORD_SETTING
from flows.serving.service import CLIENT, DASHBOARD

DATABASE_SETTING = database.SETTINGS[0]
REDIS_SETTING = "DIGITS_REDIS_URL"
DRIVER = "postgresql+asyncpg"
EXAMPLE = f"{DRIVER}://USER:PASSWORD@HOST:5432/DATABASE"
# What replicas and background services exchange by Redis.
SHARED = {
    "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
    "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
    "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
}


def prepare_server(settings: Settings) -> None:
    """Set Prefect's environment variables for a replica or the services, unless they are set.

    Raises UsageError if the database is not PostgreSQL, or if Redis or a library is missing.
    """
    require_postgresql()
    redis = require_redis(settings)
    provide_dashboard_folder()
    _set_defaults(
        {
            **SHARED,
            "PREFECT_REDIS_MESSAGING_URL": redis,
            "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": redis,
            # Otherwise requests would wait forever for a machine that is switched off.
            "PREFECT_REDIS_MESSAGING_SOCKET_CONNECT_TIMEOUT": "10",
            "PREFECT_REDIS_MESSAGING_SOCKET_TIMEOUT": "30",
            "PREFECT_SERVER_DOCKET_URL": redis,
            # `digits register` does both once; replicas that start together would be in each
            # other's way.
            "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
            **DASHBOARD,
            # Browsers ask the dashboard's own origin only, whatever its name.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(),
        }
    )
    prepare_client()
    log_by_prefect()


def prepare_client() -> None:
    """Set Prefect's environment variables for a process that uses the server."""
    password = os.environ.get(PASSWORD_SETTING)
    _set_defaults(CLIENT | ({"PREFECT_API_AUTH_STRING": password} if password else {}))


def log_by_prefect() -> None:
    """Print Prefect's log lines and ours alike, which happens as soon as Prefect is imported."""
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    os.environ["PREFECT_LOGGING_INTERNAL_LEVEL"] = "ERROR"
    importlib.import_module("prefect.main")
    logging.getLogger("flows").setLevel(logging.INFO)


def api_url() -> str:
    """Return the address of the server's API. Raises UsageError if none is set."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise UsageError(
            "PREFECT_API_URL is missing (expected the address of the server's API, as in "
            "https://digits.example.org/api)"
        )
    return url


def require_postgresql() -> None:
    """Raise UsageError unless Prefect's database is PostgreSQL, and its driver is installed."""
    url = next(filter(None, map(os.environ.get, database.SETTINGS)), None)
    driver = url and url.partition("://")[0]  # the rest may contain a password
    if driver != DRIVER:
        raise UsageError(
            f"{DATABASE_SETTING} is {f'of {driver}' if driver else 'missing'} (expected {EXAMPLE}: "
            "replicas share a database); on one machine, with SQLite, use `digits up`"
        )
    _require("asyncpg", DATABASE_SETTING)


def require_redis(settings: Settings) -> str:
    """Return the address of Redis. Raises UsageError if none is set."""
    if settings.redis_url is None:
        raise UsageError(
            f"{REDIS_SETTING} is missing (expected redis://HOST:6379/0: replicas and services "
            "exchange messages, leases and events by Redis); on one machine, use `digits up`"
        )
    _require("prefect_redis", REDIS_SETTING)
    return settings.redis_url.get_secret_value()


def _require(library: str, setting: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise UsageError(f"{setting} needs the extra `team`; install it with `make team`")


def _origins() -> str:
    names = allowed_names() or ["localhost"]
    return ",".join(f"https://{name}" for name in names)


def _set_defaults(defaults: Mapping[str, str]) -> None:
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
