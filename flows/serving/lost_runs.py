"""Ends the runs of machines that were lost: nobody there is left to report their end.

A run counts as lost after both its lease in Redis and the heartbeats of its worker have been
missing for a while. One sign is not enough: runs outlive a killed worker, and Redis may lose its
data. The time is measured by this process alone, and only while it can see both signs. If only the
network was cut, the run goes on until it asks the server before its decision, and then takes none.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed

from flows.serving.proxies import reach_loopback_directly
from flows.serving.run_leases import LABEL, connect, key
from flows.serving.watch import ACTIVE, LOOK_ERRORS, LOOK_SECONDS

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

# Longer than a worker takes to start a run, and than the time between two of its heartbeats.
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
            except (*LOOK_ERRORS, RedisError) as error:
                runs.pause()
                logger.warning("cannot look for lost runs: %s", error)


@dataclass(frozen=True)
class Silence:
    """How long nothing was heard of a run, in seconds, since its worker's last heartbeat."""

    last_heartbeat: datetime | None
    seconds: float = 0.0


class LostRuns:
    """Looks for runs of deployments whose machine is lost; `clock` returns seconds."""

    def __init__(self, redis: "Redis", clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._silences: dict[UUID, Silence] = {}
        self._last_look: float | None = None

    def pause(self) -> None:
        """Do not count the time until the next look: nothing is known of it."""
        self._last_look = None

    def look(self, client: SyncPrefectClient) -> None:
        """Look at all active runs once, and end those that have been silent for long."""
        runs = client.read_flow_runs(flow_run_filter=ACTIVE, limit=200)
        silent = self._without_lease([run for run in runs if run.deployment_id])
        heartbeats = _heartbeats(silent, client)
        now = self._clock()
        passed = 0.0 if self._last_look is None else now - self._last_look
        self._last_look = now
        self._silences = {
            run.id: self._silence(run, heartbeats.get(_worker_of(run)), passed) for run in silent
        }
        for run in silent:
            if self._silences[run.id].seconds >= LOST_SECONDS:
                client.set_flow_run_state(run.id, _end_of(run))
                logger.warning("the run %s is lost with its machine", run.name)

    def _without_lease(self, runs: list[FlowRun]) -> list[FlowRun]:
        """Return the runs that have no lease, but should have one."""
        if not runs:
            return []
        leases = cast("list[object]", self._redis.mget([key(run.id) for run in runs]))
        return [
            run
            for run, lease in zip(runs, leases, strict=True)
            if lease is None and _must_show(run)
        ]

    def _silence(self, run: FlowRun, heartbeat: datetime | None, passed: float) -> Silence:
        before = self._silences.get(run.id)
        if before is None or before.last_heartbeat != heartbeat:
            return Silence(heartbeat)
        return Silence(heartbeat, before.seconds + passed)


def _must_show(run: FlowRun) -> bool:
    """Return whether a run would have a lease if it were alive, or has not started yet."""
    return bool(run.labels.get(LABEL)) or run.state_type == StateType.PENDING


def _worker_of(run: FlowRun) -> tuple[str, str]:
    labels = run.labels
    return str(labels.get("prefect.work-pool.name")), str(labels.get("prefect.worker.name"))


def _heartbeats(
    runs: Iterable[FlowRun], client: SyncPrefectClient
) -> dict[tuple[str, str], datetime | None]:
    """Return the last heartbeat of each worker of the pools of runs.

    A worker's status would not do: a service of Prefect's changes it, which can stand still for
    minutes after Redis was away.
    """
    found: dict[tuple[str, str], datetime | None] = {}
    for pool in {_worker_of(run)[0] for run in runs}:
        try:
            workers = client.read_workers_for_work_pool(pool)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            continue  # the pool was deleted, and its workers with it
        found |= {(pool, one.name): one.last_heartbeat_time for one in workers}
    return found


def _end_of(run: FlowRun) -> State[Any]:
    message = (
        "The machine of this run was lost: neither the run nor its worker has been heard of for "
        f"{LOST_SECONDS} seconds. Start the run again: finished steps are kept."
    )
    return (Cancelled if run.state_type == StateType.CANCELLING else Crashed)(message=message)
