"""Imports the libraries that a run will need while its own server starts."""

from digits.storage.workspace import Workspace
from digits.training.devices import configure_backend
from flows.pipeline import Request
from flows.plan import plan_run


def load_ahead(request: Request, workspace: Workspace) -> None:
    """Import what the steps that a run would execute need; nothing if it would execute none.

    A step after one that runs may turn out to be cached: then the import was for nothing, and took
    no longer than the server.
    """
    steps = plan_run(request, workspace)
    work = [step for step in steps if step.step not in {"promote", "report"}]
    if not any(step.would == "run" for step in work):
        return
    open_steps = {step.step.partition(" ")[0] for step in work if step.would != "stay cached"}
    if "validate" in open_steps:
        import digits.validation.dataset_validation
    if open_steps & {"train", "evaluate", "convert"}:
        configure_backend(request.device)
        import digits.training.evaluation
        import digits.training.trainer  # noqa: F401
