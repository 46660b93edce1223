"""Retrain: the whole pipeline, from raw data to a decision about the champion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from prefect import flow
from prefect.futures import as_completed
from prefect.runtime import flow_run

from digits.cache.keys import find_code, keep_known_code
from digits.errors import DamagedError, DigitsError
from digits.progress import ending_together
from digits.registry.garbage import running
from digits.registry.ledger import Ledger
from digits.registry.promotion import RunOutcome, models_to_convert, needs_score
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.storage.workspace import current_workspace
from digits.training.devices import Device
from digits.training.precisions import PrecisionChoice
from flows.elsewhere import TrainElsewhere, require_store
from flows.parameters import DatasetName, ModelNames, Positive, RecipeName, Seed
from flows.pipeline import Request, Steps, run_pipeline
from flows.serving.pools import PoolName
from flows.serving.service import page_address
from flows.serving.watch import hold_run_lock
from tasks.add_incoming import add_incoming
from tasks.convert import convert
from tasks.dashboard import on_dashboard, show_run
from tasks.evaluate import evaluate
from tasks.ingest import ingest
from tasks.journal import Journal
from tasks.leases import leases_of
from tasks.normalize import normalize
from tasks.promote import promote
from tasks.publish import publish_run
from tasks.report import report
from tasks.train import train
from tasks.validate import validate


@dataclass(frozen=True)
class RunResult:
    """What a run hands back: its name, its outcome, and which run made the result of each step."""

    run: str
    outcome: RunOutcome
    steps: dict[str, str | None]


@flow(
    name="retrain",
    flow_run_name="retrain {dataset} {recipe}",
    persist_result=False,
    on_running=[hold_run_lock],
)
def retrain(
    *,
    dataset: DatasetName = "mnist",
    models: ModelNames = ["mlp", "cnn"],  # noqa: B006
    recipe: RecipeName = "reference",
    epochs: Positive | None = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: PrecisionChoice = "auto",
    require_significance: bool = False,
    train_on: PoolName | None = None,
) -> RunResult:
    """Retrain the models on a dataset and promote the better one if it beats the champion.

    Args:
        dataset: Dataset to train on: the name of a spec in data/datasets.
        models: Models to train; the most accurate one is the candidate for promotion.
        recipe: Training recipe: reference (the original settings), fast, quick or best.
        epochs: Number of epochs (default: the recipe's).
        seed: Seed of all random numbers.
        device: Device to train on; auto uses a GPU if one is available.
        precision: Number type of the layers; auto leaves it to the recipe and the device.
        require_significance: Promote only if the exact McNemar test is also significant.
        train_on: Work pool whose machines train (default: this run's machine does).
    """
    workspace = current_workspace()
    if train_on is not None:
        require_store(workspace)
    leases_of(workspace.settings)  # raises what is wrong with their setting
    kept = Journal()
    request = Request.of(
        dataset,
        models=models,
        recipe=recipe,
        epochs=epochs,
        seed=seed,
        device=device,
        precision=precision,
        settings=workspace.settings,
        require_significance=require_significance,
    )
    spec = request.spec
    steps = steps_noted_in(kept)
    if train_on is not None:
        steps = replace(steps, train=TrainElsewhere(train_on, device, kept))
    with (
        running(workspace),
        on_dashboard(dataset, spec.title, (recipe, request.device), page_address),
        ending_together(),  # innermost: what shows the trainings waits for their last messages
    ):
        find_code(models, spec.read_options)
        outcome = run_pipeline(request, steps, workspace)
        show_run(spec.title, outcome, kept.steps, page_address)
        publish_run(dataset, outcome)
    keep_known_code()
    return RunResult(str(flow_run.name), outcome, kept.steps)


def score_champion(
    evaluate: Callable[..., EvaluationRef], *, dataset: str, arrays: ArraysRef, device: str
) -> EvaluationRef | None:
    """Return the champion's score on this test set; evaluate it again if it has none.

    Raises DigitsError if the champion must be evaluated and its bytes are not intact.
    """
    workspace = current_workspace()
    champion = Ledger(dataset, workspace.settings).champion()
    if champion is None:
        return None
    if not needs_score(champion, arrays, workspace.store.verify):
        return champion.evaluation
    try:
        workspace.store.verify(champion.model)
    except DamagedError as error:
        raise DigitsError(
            f"cannot score the champion, version {champion.number}, on this test set: {error}; "
            "restore it from a backup, or promote another version with `digits rollback`"
        ) from error
    return evaluate(model=champion.model, arrays=arrays, device=device)


def models_due(**decided: Any) -> Sequence[ModelRef]:
    """Return the models to convert; see digits.registry.promotion.models_to_convert."""
    return models_to_convert(**decided, workspace=current_workspace())


def end_with_first_failure(trainings: Sequence[Any]) -> None:
    """Wait for the trainings; the first that fails ends the run, and the others with it."""
    for ended in as_completed([training.future for training in trainings]):
        ended.result()
    for training in trainings:  # notes them in their order
        training.result()


def steps_noted_in(kept: Journal) -> Steps:
    """Return the tasks of a run, which note in its journal how their results came about."""
    scored = kept.noting(evaluate)
    return Steps(
        add_incoming=add_incoming,
        ingest=kept.noting(ingest),
        validate=kept.noting(validate),
        normalize=kept.noting(normalize),
        train=kept.noting(train),
        evaluate=scored,
        score_champion=partial(score_champion, scored),
        models_to_convert=models_due,
        convert=kept.noting(convert),
        promote=promote,
        report=kept.noting(report),
        wait=end_with_first_failure,
    )
