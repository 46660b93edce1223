"""Retrain: the whole pipeline, from raw data to a decision about the champion."""

from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from digits.dataset import load_spec
from digits.devices import Device, resolve_device
from digits.garbage import runs_lock
from digits.locks import hold
from digits.promotion import Decision, Rule
from digits.recipes import training_settings
from digits.references import ArraysRef, EvaluationRef, Frozen, ModelRef, ReportRef
from digits.sources import content_of
from digits.workspace import current_workspace
from tasks.evaluate import evaluate
from tasks.ingest import ingest
from tasks.journal import journal
from tasks.normalize import normalize
from tasks.promote import promote
from tasks.report import report
from tasks.train import train
from tasks.validate import validate


class RunResult(Frozen):
    """What a run hands back: its models and scores, the decision, the report, and its steps."""

    run: str
    models: tuple[ModelRef, ...]
    evaluations: tuple[EvaluationRef, ...]
    decision: Decision
    report: ReportRef
    steps: dict[str, str | None]


@flow(name="retrain", flow_run_name="retrain {dataset} {recipe}", persist_result=False)
def retrain(
    dataset: str = "mnist",
    models: Annotated[list[str], Field(min_length=1)] = ["mlp", "cnn"],  # noqa: B006
    recipe: str = "reference",
    epochs: Annotated[int, Field(ge=1)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    device: Device = "auto",
    require_significance: bool = False,
) -> RunResult:
    """Retrain the models on a dataset and promote the better one if it beats the champion."""
    spec = load_spec(dataset, current_workspace().settings)
    on = resolve_device(device)
    settings = {
        model: training_settings(recipe, model, epochs=epochs, seed=seed) for model in models
    }
    with hold(runs_lock(current_workspace()), shared=True), journal() as kept:
        data = ingest(spec.layout, content_of(spec, current_workspace().settings), spec)
        validation = validate(data, spec.thresholds)
        arrays = normalize(data)
        trainings = [train.submit(arrays, model, settings[model], on) for model in models]
        scorings = [
            evaluate.submit(training, arrays, on)  # type: ignore[call-overload]
            for training in trainings
        ]
        trained = [training.result() for training in trainings]
        scores = [scoring.result() for scoring in scorings]
        rule = Rule(floor=spec.floor, require_significance=require_significance)
        decision = None
        while decision is None:
            decision = promote(data, trained, scores, champion_score(arrays, on, dataset), rule)
        page = report(data, validation, arrays, trained, scores, decision.standing)
    return RunResult(
        run=str(flow_run.name),
        models=tuple(trained),
        evaluations=tuple(scores),
        decision=decision,
        report=page,
        steps=kept.steps,
    )


def champion_score(arrays: ArraysRef, device: str, dataset: str) -> EvaluationRef | None:
    """The champion's score on the present test set, scored again if its own is not of it.

    Raises DamagedError when it has to be scored and its bytes are not whole.
    """
    workspace = current_workspace()
    champion = workspace.ledger(dataset).champion()
    if champion is None:
        return None
    is_same_test = champion.evaluation.test_digest == arrays.test_digest
    if is_same_test and workspace.store.is_whole(champion.evaluation):
        return champion.evaluation
    workspace.store.verify(champion.model)
    return evaluate(champion.model, arrays, device)
