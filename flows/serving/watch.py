"""Notices runs whose process died on this machine, and keeps the slots of those that are alive.

A process that is killed cannot report its end: its run would stay Running and keep its slot, so
that no other run could start. Silence is no proof of death, because a process that was suspended
together with its laptop is silent, too. So each run holds a kernel lock until its process ends.

A kernel knows the locks of its own machine only, so each worker's machine watches the runs of that
worker. `flows.serving.lost_runs` notices those of a machine that was lost as a whole.
"""

import atexit
import contextlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed

from digits.settings import Settings
from digits.storage import locks
from flows.serving.proxies import reach_loopback_directly

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10
# What may go wrong in a look without ending the watch: the server restarts, a run was deleted
# meanwhile, a proxy answers something else.
LOOK_ERRORS = (httpx.HTTPError, PrefectException, ValueError)
# A run counts as dead if its process is missing this many times in a row: a living worker reports
# the end of its runs by itself, with the exit code.
NUM_LOOKS = 2
# From a worker's pickup of a run to the run's lock, on a busy machine.
START_SECONDS = 90
# The longest that the server accepts. A run renews its slot every few minutes, which it cannot do
# while the machine sleeps.
SLOT_SECONDS = 86_400

ACTIVE = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(
            any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        )
    )
)


def hold_run_lock(flow: Any, flow_run: FlowRun, state: Any) -> None:  # noqa: ARG001
    """Hold the lock of a flow run until this process ends: a hook for flows that start to run."""
    # Its descriptor is never closed: only the kernel may release the lock.
    path = _lock_path(flow_run.id, Settings())
    locks.acquire(path)
    atexit.register(path.unlink, missing_ok=True)


@dataclass(frozen=True)
class Owner:
    """The worker whose runs are watched; `is_only` if the server knows no others."""

    pool: str
    worker: str
    is_only: bool = False

    def has(self, run: FlowRun) -> bool:
        """Return whether a run of a deployment is this worker's.

        Workers label the runs that they pick up. Just before, a run is nobody's.
        """
        worker = run.labels.get("prefect.worker.name")
        if worker is None:
            return self.is_only
        return (run.labels.get("prefect.work-pool.name"), worker) == (self.pool, self.worker)


def watch(settings: Settings, owner: Owner) -> None:
    """Look at the active runs of a worker of this machine, forever."""
    runs = Watch(settings, owner)
    reach_loopback_directly()
    with get_client(sync_client=True) as client:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                runs.look(client)
            except LOOK_ERRORS as error:
                logger.info("cannot look at the runs: %s", error)


def end_dead_runs(runs: "Watch") -> None:
    """End those runs of this machine's worker that have died; without the server, do nothing."""
    with (
        contextlib.suppress(*LOOK_ERRORS),
        get_client(sync_client=True) as client,
    ):
        for _ in range(NUM_LOOKS):
            runs.look(client)


class Watch:
    """Looks at the active runs of a worker of this machine."""

    def __init__(self, settings: Settings, owner: Owner) -> None:
        self._settings = settings
        self._owner = owner
        self._missed: dict[UUID, int] = {}
        # By this process's clock: those of other machines may be wrong.
        self._first_seen: dict[UUID, float] = {}

    def look(self, client: SyncPrefectClient) -> None:
        """Look at the active runs once: end those that have died, and keep the others' slots."""
        runs = client.read_flow_runs(flow_run_filter=ACTIVE, limit=200)
        now = time.monotonic()
        self._first_seen = {run.id: self._first_seen.get(run.id, now) for run in runs}
        missed = {}
        for run in filter(self._is_here, runs):
            if self._is_alive(run):
                _keep_slot(client, run)
                continue
            missed[run.id] = self._missed.get(run.id, 0) + 1
            if missed[run.id] >= NUM_LOOKS:
                client.set_flow_run_state(run.id, _end_of(run))
                logger.warning("the run %s has died", run.name)
        self._missed = missed
        self._sweep({run.id for run in runs})

    def _is_here(self, run: FlowRun) -> bool:
        # A run by hand in another workspace, or of another machine's worker, has its lock there.
        has_lock = _lock_path(run.id, self._settings).exists()
        return has_lock or (run.deployment_id is not None and self._owner.has(run))

    def _is_alive(self, run: FlowRun) -> bool:
        path = _lock_path(run.id, self._settings)
        if path.exists():
            return not locks.is_free(path)
        # It is starting, or died before it had its lock.
        if run.infrastructure_pid and run.infrastructure_pid.isdecimal():
            return _is_process(int(run.infrastructure_pid))
        return time.monotonic() - self._first_seen[run.id] < START_SECONDS

    def _sweep(self, active: set[UUID]) -> None:
        """Remove the locks of runs that have ended."""
        folder = _lock_path(None, self._settings)
        for path in folder.glob("*.lock") if folder.is_dir() else ():
            if path.stem not in map(str, active) and locks.is_free(path):
                path.unlink(missing_ok=True)


def _lock_path(run: UUID | None, settings: Settings) -> Path:
    folder = settings.artifacts_dir / "locks" / "runs"
    return folder if run is None else folder / f"{run}.lock"


def _keep_slot(client: SyncPrefectClient, run: FlowRun) -> None:
    if run.state is None or run.state.type != StateType.RUNNING:
        return
    lease = run.state.state_details.deployment_concurrency_lease_id
    if lease is not None:
        # A slot that is gone cannot be kept: the run itself ends when it notices.
        with contextlib.suppress(ObjectNotFound, PrefectHTTPStatusError):
            client.renew_concurrency_lease(lease_id=lease, lease_duration=SLOT_SECONDS)


def _end_of(run: FlowRun) -> State[Any]:
    if run.state_type == StateType.CANCELLING:
        return Cancelled(message="The run's process had ended before it could be stopped.")
    if run.state_type == StateType.PENDING:
        return Crashed(
            message="The run never started: its worker was killed while starting it. Start it "
            "again."
        )
    return Crashed(
        message="The run's process ended without a word: it was killed, or the machine went down. "
        "Start it again: finished steps are kept, and a training resumes after its last complete "
        "epoch."
    )


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's: the number was used again
        return False
    return True
