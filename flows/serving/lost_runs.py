"""Ends the runs of machines that were lost: nobody there is left to report their end.

A run counts as lost after both its lease in Redis and its worker have been silent for a while. One
sign is not enough: runs outlive a killed worker, and Redis may lose its data. The time is measured
by this process alone. If only the network was cut, the run goes on until it asks the server before
its decision, and then takes none.
"""

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed

from flows.serving.proxies import reach_loopback_directly
from flows.serving.run_leases import LABEL, connect, key
from flows.serving.watch import ACTIVE, LOOK_SECONDS

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

# Longer than a worker takes to start a run, and than a lease and a worker's heartbeat last.
LOST_SECONDS = 120


def watch(redis_url: str) -> None:
    """Look for lost runs, forever."""
    from redis.exceptions import RedisError

    runs = LostRuns(connect(redis_url))
    reach_loopback_directly()
    with get_client(sync_client=True) as client:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                runs.look(client)
            except (httpx.HTTPError, PrefectHTTPStatusError, RedisError) as error:
                runs.forget()
                logger.warning("cannot look for lost runs: %s", error)


class LostRuns:
    """Looks for runs of deployments whose machine is lost."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._silent_since: dict[UUID, float] = {}

    def forget(self) -> None:
        """Start over: nothing is known of the time since the last look."""
        self._silent_since.clear()

    def look(self, client: SyncPrefectClient) -> None:
        """Look at all active runs once, and end those that have been silent for long."""
        runs = client.read_flow_runs(flow_run_filter=ACTIVE, limit=200)
        silent = self._silent([run for run in runs if run.deployment_id], client)
        now = time.monotonic()
        self._silent_since = {run.id: self._silent_since.get(run.id, now) for run in silent}
        for run in silent:
            if now - self._silent_since[run.id] >= LOST_SECONDS:
                client.set_flow_run_state(run.id, _end_of(run))
                logger.warning("the run %s is lost with its machine", run.name)

    def _silent(self, runs: list[FlowRun], client: SyncPrefectClient) -> list[FlowRun]:
        """Return the runs without a lease and without a worker."""
        if not runs:
            return []
        leases = cast("list[object]", self._redis.mget([key(run.id) for run in runs]))
        suspects = [run for run, lease in zip(runs, leases, strict=True) if lease is None]
        online = _online(suspects, client)
        return [run for run in suspects if _must_show(run) and _worker_of(run) not in online]


def _must_show(run: FlowRun) -> bool:
    """Return whether a run would have a lease if it were alive, or has not started yet."""
    return bool(run.labels.get(LABEL)) or run.state_type == StateType.PENDING


def _worker_of(run: FlowRun) -> tuple[str, str]:
    labels = run.labels
    return str(labels.get("prefect.work-pool.name")), str(labels.get("prefect.worker.name"))


def _online(runs: Iterable[FlowRun], client: SyncPrefectClient) -> set[tuple[str, str]]:
    """Return the living workers of the pools of runs."""
    found = set()
    for pool in {_worker_of(run)[0] for run in runs}:
        try:
            workers = client.read_workers_for_work_pool(pool)
        except ObjectNotFound:
            continue
        found |= {(pool, one.name) for one in workers if one.status == WorkerStatus.ONLINE}
    return found


def _end_of(run: FlowRun) -> State[Any]:
    message = (
        "The machine of this run was lost: neither the run nor its worker has been heard of for "
        f"{LOST_SECONDS} seconds. Start the run again: finished steps are kept."
    )
    return (Cancelled if run.state_type == StateType.CANCELLING else Crashed)(message=message)
