"""Loads the libraries that a run will need, while the server that it has to wait for starts."""

from typing import Any

from digits.spec import DatasetSpec
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from flows.plan import plan_run


def load_ahead(spec: DatasetSpec, **request: Any) -> None:
    """Import what the steps need that a run of this request will execute; nothing, if none is.

    Where a step before it runs, a step may turn out to be cached after all: then this was in vain,
    and took no longer than the server does.
    """
    steps = plan_run(spec, workspace=current_workspace(), **request)
    work = [step for step in steps if step.step not in {"promote", "report"}]
    if not any(step.would == "run" for step in work):
        return
    open_steps = {step.step.partition(" ")[0] for step in work if step.would != "stay cached"}
    if "validate" in open_steps:
        import digits.validation.dataset_validation
    if open_steps & {"train", "evaluate"}:
        configure_backend(resolve_device(request["device"]))
        import digits.training.evaluation
        import digits.training.trainer  # noqa: F401
