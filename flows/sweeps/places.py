"""Where the trainings of a sweep run: threads of this process, or processes of Ray."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from prefect.task_runners import TaskRunner

from digits.settings import Settings
from flows.runners import task_runner
from flows.sweeps.request import SweepRequest

PlaceName = Literal["threads", "ray"]


@dataclass(frozen=True)
class Place:
    """What runs the trainings, how many at once, and what to enter while one is submitted."""

    runner: TaskRunner[Any]
    num_parallel: int
    resources: Callable[[], AbstractContextManager[Any]]


def where(
    name: PlaceName, request: SweepRequest, *, parallel: int | None, gpu_share: float
) -> Place:
    """Return the place of a sweep's trainings; the setting `ray_address` names the cluster of Ray.

    Raises UsageError if Ray is not installed, or for an unsuitable address.
    """
    num_cores = os.cpu_count() or 1
    if name == "threads":
        return Place(task_runner(), parallel or num_cores, nullcontext)
    runner = task_runner(Settings().ray_address or "ray")
    from prefect_ray.context import remote_options

    options: dict[str, Any] = {"num_cpus": 1}
    if request.device != "cpu":
        options["num_gpus"] = gpu_share
        if gpu_share < 1:
            options["runtime_env"] = {"env_vars": {"DIGITS_SHARE_GPU": "true"}}
    # Ray has a queue of its own. Proposals are better the fewer of them are made at once.
    num_parallel = request.num_trainings if request.trials is None else num_cores
    return Place(runner, parallel or num_parallel, partial(remote_options, **options))
