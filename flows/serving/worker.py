"""The worker: starts each run of the service as a process of this project.

Prefect's own worker starts what the server's database says: the command and the environment of the
work pool, the pull steps of the deployment. Whoever can write there could run anything. This one
starts `flows.serving.execution` whatever the database says.
"""

import asyncio
import contextlib
import os
import sys
import warnings
from typing import Any

from prefect.flows import Flow
from prefect.settings import get_current_settings
from prefect.utilities.processutils import command_to_string, setup_signal_handlers_worker
from prefect.workers import process

from flows.serving.processes import NEUTRAL_FOLDER
from flows.serving.proxies import reach_loopback_directly
from flows.serving.registration import POOL

NAME = "local"
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


async def no_hooks(_: Any) -> Flow[..., Any]:
    """Return a flow without hooks, instead of loading code to look for hooks in this process."""
    return Flow(lambda: None, name="no-hooks")


async def work() -> None:
    """Work until a signal."""
    settings = get_current_settings().worker
    worker = Worker(
        name=NAME,
        work_pool_name=POOL,
        prefetch_seconds=settings.prefetch_seconds,
        heartbeat_interval_seconds=int(settings.heartbeat_seconds),
        create_pool_if_not_found=False,
    )
    with contextlib.suppress(asyncio.CancelledError):
        await worker.start()


if __name__ == "__main__":
    setattr(process, "load_flow_from_flow_run", no_hooks)  # noqa: B010
    reach_loopback_directly()
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())
