"""What a sweep would train, and which of it is cached, looked up without running anything."""

from collections.abc import Callable
from typing import cast

from digits.storage.references import ArraysRef
from digits.storage.workspace import Workspace
from digits.sweeps.variants import Combination
from flows.pipeline import Request, prepare
from flows.plan import PlannedStep, Planner
from flows.sweeps.request import SweepRequest


def plan_sweep(request: SweepRequest, workspace: Workspace) -> list[PlannedStep]:
    """Plan the trainings of a sweep; those that Optuna proposes are not known before."""
    if request.trials is not None:
        reason = f"{len(request.seeds)} trainings, with settings that Optuna proposes"
        return [
            PlannedStep(
                step=f"{base.dataset} {base.model} {base.recipe}, trial {number}",
                would="depend",
                reason=reason,
            )
            for base in request.bases
            for number in range(1, request.trials + 1)
        ]
    combinations = request.combinations()
    look_ups = {name: _training_look_up(request, name, workspace) for name in request.specs}
    return [look_ups[one.variant.dataset](one) for one in combinations]


def _training_look_up(
    request: SweepRequest, dataset: str, workspace: Workspace
) -> Callable[[Combination], PlannedStep]:
    of_dataset = Request(request.specs[dataset], {}, request.device, request.rule(dataset))
    planner = Planner(of_dataset, workspace)
    arrays: ArraysRef | None = prepare(of_dataset.spec, planner.callable_steps(), workspace).arrays
    if request.is_held_out:
        found = planner.look_up("hold_out", "hold_out", {"arrays": arrays})
        arrays = cast("ArraysRef | None", found)

    def look_up(combination: Combination) -> PlannedStep:
        arguments = {
            "arrays": arrays,
            "model": combination.variant.model,
            "settings": combination.settings,
            "device": request.device,
        }
        planner.look_up("train", combination.label, arguments)
        return planner.steps[-1]

    return look_up
