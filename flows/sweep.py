"""Sweep: many trainings side by side, compared by variant; each one is cached and resumable."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from prefect import flow
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled
from pydantic import Field

from digits.cache.keys import find_code, keep_known_code
from digits.errors import DigitsError
from digits.progress import ending_together
from digits.registry.garbage import running
from digits.registry.promotion import RunOutcome
from digits.report.sweep_summary import sweep_page
from digits.storage.references import ReportRef
from digits.storage.workspace import Workspace, current_workspace
from digits.sweeps.statistics import Summary
from digits.training.devices import Device
from flows.parameters import DatasetName, ModelNames, Positive, RecipeName
from flows.serving.service import page_address
from flows.serving.watch import hold_run_lock
from flows.sweeps.places import Place, PlaceName, where
from flows.sweeps.request import DEFAULT_LIMIT, SweepRequest
from flows.sweeps.search import search
from flows.sweeps.steps import AlreadyRunningError, alone, prepared_datasets, promoted
from flows.sweeps.trainings import Failure, Training, Trainings, summarized
from tasks.compare import compare
from tasks.dashboard import live_on_dashboard, show
from tasks.evaluate import evaluate
from tasks.hold_out import hold_out
from tasks.train import train

Unique = {"uniqueItems": True}
DatasetNames = Annotated[list[DatasetName], Field(min_length=1, json_schema_extra=Unique)]
RecipeNames = Annotated[list[RecipeName], Field(min_length=1, json_schema_extra=Unique)]
Share = Annotated[float, Field(gt=0, le=1)]
SweepName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


@dataclass(frozen=True)
class SweepResult:
    """What a sweep made: its trainings by variant, its page, and a decision for each dataset.

    `outcomes` is empty unless the sweep was asked to promote.
    """

    request: SweepRequest
    trainings: list[Training]
    failures: list[Failure]
    outcomes: dict[str, RunOutcome]
    page: ReportRef

    @property
    def summaries(self) -> list[Summary]:
        """The variants, in the order in which they were asked for."""
        return summarized(self.trainings)


class IncompleteSweepError(DigitsError):
    """Some trainings of a sweep failed; `result` has the others."""

    def __init__(self, result: SweepResult) -> None:
        first, *others = result.failures
        more = f"; {len(others)} more failed" if others else ""
        reason = first.reason.splitlines()[0].rstrip(".:")  # all of it was logged
        super().__init__(
            f"{len(result.trainings)} of {result.request.num_trainings} trainings finished; "
            f"{first.label} failed: {reason}{more}; mend this and start the sweep again: the "
            "finished ones are kept"
        )
        self.result = result


def _run_name() -> str:
    asked = flow_run.parameters
    return f"sweep {asked.get('name') or ' '.join(asked['datasets'])}"


@flow(
    name="sweep",
    flow_run_name=_run_name,
    persist_result=False,
    on_running=[hold_run_lock],
)
def sweep(
    *,
    datasets: DatasetNames = ["mnist"],  # noqa: B006
    models: ModelNames = ["mlp", "cnn"],  # noqa: B006
    recipes: RecipeNames = ["reference"],  # noqa: B006
    seeds: str = "0",
    changes: list[str] = [],  # noqa: B006
    epochs: Positive | None = None,
    trials: Positive | None = None,
    held_out: bool = False,
    promote: bool = False,
    require_significance: bool = False,
    name: SweepName | None = None,
    on: PlaceName = "threads",
    parallel: Positive | None = None,
    gpu_share: Share = 1.0,
    limit: Positive = DEFAULT_LIMIT,
    device: Device = "auto",
) -> SweepResult:
    """Train every combination, compare the variants over seeds, and promote the best if asked.

    Args:
        datasets: Datasets to train on: names of specs in data/datasets.
        models: Models to train.
        recipes: Training recipes, which `docs/recipes.md` compares.
        seeds: Seeds that each variant is trained with, as in 0-4 or 0,1,7.
        changes: Settings to try, as in learning_rate=0.001,0.003; with trials also as a range,
            learning_rate=0.001..0.01:log.
        epochs: Number of epochs (default: each recipe's).
        trials: Number of variants that Optuna proposes for each dataset, model and recipe.
        held_out: Score on held-out training images instead of the test set.
        promote: Let the best variant of each dataset go through the promotion rule.
        require_significance: Promote only if the exact McNemar test is also significant.
        name: Name of the sweep; one of a name runs at a time (default: made from its settings).
        on: Where trainings run: in threads of this process, or in processes of Ray.
        parallel: Number of trainings side by side (default: the number of cores; on Ray, as many
            as it has room for).
        gpu_share: Share of a GPU that each training takes on Ray; below 1, several share one.
        limit: Largest number of trainings that may be started.
        device: Device to train on; auto uses a GPU if one is available.
    """
    workspace = current_workspace()
    request = SweepRequest.of(
        datasets=datasets,
        models=models,
        recipes=recipes,
        seeds=seeds,
        changes=changes,
        epochs=epochs,
        trials=trials,
        held_out=held_out,
        require_significance=require_significance,
        name=name,
        limit=limit,
        device=device,
        settings=workspace.settings,
    )
    place = where(on, request, parallel=parallel, gpu_share=gpu_share)
    try:
        with alone(request.name, workspace.settings):
            result = _swept(request, workspace, place, promote)
    except AlreadyRunningError as error:
        if deployment.id is None:
            raise
        # As the server ends a run of another deployment that is active.
        return Cancelled(message=str(error))  # type: ignore[return-value]
    if result.failures:
        raise IncompleteSweepError(result)
    return result


def _swept(
    request: SweepRequest, workspace: Workspace, place: Place, promotes: bool
) -> SweepResult:
    with (
        running(workspace),
        live_on_dashboard([*request.specs, request.name]),
        ending_together(),  # innermost: what shows the trainings waits for their last messages
    ):
        for spec in request.specs.values():
            find_code({base.model for base in request.bases}, spec.read_options)
        result = _made(request, workspace, place, promotes)
    keep_known_code()
    return result


def _made(request: SweepRequest, workspace: Workspace, place: Place, promotes: bool) -> SweepResult:
    prepared, failures = prepared_datasets(request, workspace)
    arrays = {name: ready.arrays for name, ready in prepared.items()}
    with place.runner as runner:
        training = partial(
            Trainings,
            request,
            train=train,
            evaluate=evaluate,
            place=replace(place, runner=runner),
        )
        whole = trainings = training(arrays, scored_on="test")
        if request.is_held_out:
            parts = {name: hold_out(arrays=one) for name, one in arrays.items()}
            trainings = training(parts, scored_on="held-out")
        if request.trials is None:
            trainings.run(request.combinations())
        else:
            search(request, trainings, workspace.settings)
        failures += trainings.failures
        outcomes: dict[str, RunOutcome] = {}
        if promotes:
            outcomes, failed = promoted(
                request,
                prepared=prepared,
                trainings=trainings.finished,
                whole=whole,
                workspace=workspace,
            )
            failures += [*failed, *(whole.failures if request.is_held_out else ())]
    page = compare(
        title=request.name,
        combinations=[one.combination for one in trainings.finished],
        scored=[one.scored for one in trainings.finished],
        failures=[(failure.label, failure.reason) for failure in failures],
        is_held_out=request.is_held_out,
    )
    result = SweepResult(request, trainings.finished, failures, outcomes, page)
    _show(result, workspace)
    return result


def _show(result: SweepResult, workspace: Workspace) -> None:
    """Show a sweep in the dashboard."""
    request, path = result.request, workspace.store.folder(result.page) / "report.html"
    text = sweep_page(
        request.name,
        result.summaries,
        [(failure.label, failure.reason) for failure in result.failures],
        {dataset: outcome.decision.entry.verdict for dataset, outcome in result.outcomes.items()},
        is_held_out=request.is_held_out,
        page=path,
        link=page_address(path),
    )
    state = "incomplete" if result.failures else "complete"
    show(f"sweep-{request.name}", text, f"{len(result.trainings)} trainings, {state}")
