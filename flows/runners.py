"""Where a flow's submitted steps run: threads of its process, or processes of Ray."""

import os
import secrets
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from digits.errors import UsageError
from digits.progress import is_terminal
from digits.settings import Settings

LOCAL, CLUSTER = "ray", "ray://"
# Steps exchange references only; the least that Ray accepts is 75 MB.
OBJECT_STORE_BYTES = 100_000_000
# What a process of Ray calls first.
PREPARE = "flows.ray_workers.prepare"


def task_runner(on: str | None = None) -> TaskRunner[Any]:
    """Return what runs a flow's submitted steps.

    `on` is None for threads of this process, "ray" for processes of this machine, or
    "ray://HOST:PORT" for a cluster whose machines have digits, its credentials for DIGITS_STORE,
    and a way to this flow's server. Raises UsageError for another address, for a cluster without a
    common store, and if Ray is not installed.
    """
    if on is None:
        return ThreadPoolTaskRunner()
    if on != LOCAL and not (on.startswith(CLUSTER) and on != CLUSTER):
        raise UsageError(f"{on}: unknown (expected ray, or ray://HOST:10001 for a cluster)")
    # Ray reads these when it is imported, and tells its makers how it is used unless told not to.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_COLOR_PREFIX", "1" if is_terminal() else "0")
    if on == LOCAL:
        _require_token()
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise UsageError(f"{on}: Ray is not installed; install it with `make ray`") from error
    runner: TaskRunner[Any]
    if on == LOCAL:
        runner = RayTaskRunner(init_kwargs=_local())
    else:
        runner = RayTaskRunner(on, init_kwargs=_cluster(on, Settings()))
    return runner


def _require_token() -> None:
    """Let Ray's own servers, which listen on every address, answer only to who knows a secret."""
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _local() -> dict[str, Any]:
    return {
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "logging_level": "warning",
        "runtime_env": {"worker_process_setup_hook": PREPARE},
    }


def _cluster(on: str, settings: Settings) -> dict[str, Any]:
    """Pass on where results lie; folders and credentials are each machine's own."""
    if settings.store is None:
        raise UsageError(
            f"{on}: its machines cannot use this one's folders; set DIGITS_STORE here, and "
            "credentials for it there"
        )
    variables = {"DIGITS_STORE": settings.store}
    return {"runtime_env": {"worker_process_setup_hook": PREPARE, "env_vars": variables}}
