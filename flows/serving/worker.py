"""The worker: starts each run of the service as a process of this project.

Prefect's own worker starts what the server's database says: the command and the environment of the
work pool, the pull steps of the deployment. Whoever can write there could run anything. This one
starts `flows.serving.execution` whatever the database says.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.flows import Flow
from prefect.settings import get_current_settings
from prefect.utilities.processutils import command_to_string
from prefect.workers import process

from flows.serving.own_code import other_code, requires_registered_code
from flows.serving.pools import LOCAL_WORKER, POOL
from flows.serving.processes import NEUTRAL_FOLDER
from flows.serving.proxies import reach_loopback_directly

if TYPE_CHECKING:
    from prefect.client.schemas.responses import WorkerFlowRunResponse

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "flows.serving.execution")
ENVIRONMENT = {
    # All log lines, ours and Prefect's, go to the dashboard. Nothing is printed: a run can outlive
    # its worker, but not a write to a pipe that nobody reads.
    "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


class FixedJob(process.ProcessJobConfiguration):
    """The process of a run; the work pool's and the deployment's job variables have no effect."""

    def prepare_for_flow_run(self, *arguments: Any, **options: Any) -> None:
        """Replace what the database says."""
        self.command = command_to_string(list(COMMAND))
        self.env = dict(ENVIRONMENT)
        self.working_dir = NEUTRAL_FOLDER
        super().prepare_for_flow_run(*arguments, **options)


with warnings.catch_warnings(action="ignore"):  # it replaces Prefect's worker of this type

    class Worker(process.ProcessWorker):
        """Prefect's worker for processes, with fixed ones."""

        type = "process"
        job_configuration = FixedJob
        _said: str | None = None

        async def _get_scheduled_flow_runs(self) -> list["WorkerFlowRunResponse"]:
            """Leave runs of other code to workers that have it, and say so."""
            found = await super()._get_scheduled_flow_runs()
            return await self._of_this_code(found) if requires_registered_code() else found

        async def _of_this_code(
            self, found: Sequence["WorkerFlowRunResponse"]
        ) -> list["WorkerFlowRunResponse"]:
            differences = {
                name: await self._difference(name)
                for name in {one.flow_run.deployment_id for one in found}
            }
            said = next(filter(None, differences.values()), None)
            if said and said != self._said:
                logger.warning("leaving runs to other workers: %s", said)
            self._said = said
            return [one for one in found if differences[one.flow_run.deployment_id] is None]

        async def _difference(self, deployment: UUID | None) -> str | None:
            if deployment is None:  # refused when it is executed, with the reason
                return None
            return other_code(await self.client.read_deployment(deployment))


async def no_hooks(_: Any) -> Flow[..., Any]:
    """Return a flow without hooks, instead of loading code to look for hooks in this process."""
    return Flow(lambda: None, name="no-hooks")


async def work(pool: str, name: str) -> None:
    """Work until a signal."""
    settings = get_current_settings().worker
    worker = Worker(
        name=name,
        work_pool_name=pool,
        prefetch_seconds=settings.prefetch_seconds,
        heartbeat_interval_seconds=int(settings.heartbeat_seconds),
        create_pool_if_not_found=False,
    )
    working = asyncio.ensure_future(worker.start())
    # Prefect's handlers raise KeyboardInterrupt in whatever runs at that moment, and do nothing if
    # SIGINT is ignored, as it is in a shell's background jobs, not even at a SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working


def main(pool: str = POOL, name: str = LOCAL_WORKER) -> None:
    """Work for a pool until a signal."""
    setattr(process, "load_flow_from_flow_run", no_hooks)  # noqa: B010
    reach_loopback_directly()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(pool, name))


if __name__ == "__main__":
    main()
