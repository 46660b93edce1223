"""Retrain: the whole pipeline, from raw data to a decision about the champion."""

from prefect import flow
from prefect.futures import as_completed
from prefect.runtime import flow_run

from digits.cache.keys import find_code, keep_known_code
from digits.datasets.sources.content import content_of
from digits.datasets.versions import DatasetVersion, DatasetVersions
from digits.errors import DamagedError, DigitsError
from digits.progress import ending_together
from digits.recipes import training_settings
from digits.registry.garbage import runs_lock
from digits.registry.ledger import Ledger
from digits.registry.promotion import Decision, Rule
from digits.spec import load_spec
from digits.storage.lineage import trace
from digits.storage.locks import hold
from digits.storage.references import ArraysRef, EvaluationRef, Frozen, ModelRef, ReportRef
from digits.storage.workspace import current_workspace
from digits.training.devices import Device, resolve_device
from flows.parameters import DatasetName, ModelNames, Positive, RecipeName, Seed
from flows.service import page_address
from tasks.add_incoming import add_incoming
from tasks.dashboard import on_dashboard, show_run
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
    data: DatasetVersion
    models: tuple[ModelRef, ...]
    evaluations: tuple[EvaluationRef, ...]
    decision: Decision
    report: ReportRef
    steps: dict[str, str | None]


@flow(name="retrain", flow_run_name="retrain {dataset} {recipe}", persist_result=False)
def retrain(
    *,
    dataset: DatasetName = "mnist",
    models: ModelNames = ["mlp", "cnn"],  # noqa: B006
    recipe: RecipeName = "reference",
    epochs: Positive | None = None,
    seed: Seed = 0,
    device: Device = "auto",
    require_significance: bool = False,
) -> RunResult:
    """Retrain the models on a dataset and promote the better one if it beats the champion.

    Args:
        dataset: A spec in data/datasets, by its name.
        models: Which models to train; the better one is the candidate.
        recipe: How to train.
        epochs: Instead of the recipe's number of epochs.
        seed: Where all chance starts from.
        device: A GPU if there is one, or what you say.
        require_significance: Promote only if the exact McNemar test is significant too.
    """
    workspace, on = current_workspace(), resolve_device(device)
    spec = load_spec(dataset, workspace.settings)
    settings = {
        model: training_settings(recipe, model, epochs=epochs, seed=seed) for model in models
    }
    Ledger(
        dataset, workspace.settings
    ).entries()  # a damaged ledger ends the run before anything is trained
    rule = Rule(floor=spec.floor, require_significance=require_significance)
    lock, waiting = runs_lock(workspace), "waiting for garbage collection to end"
    with (
        hold(lock, waiting, shared=True),
        journal() as kept,
        on_dashboard(dataset, spec.title, (recipe, on), page_address),
        ending_together(),  # innermost: what shows the trainings waits for what they still say
    ):
        add_incoming(spec)
        version = DatasetVersions(dataset, workspace.settings).current()
        content = content_of(spec, workspace.settings)
        data = ingest(spec.layout, content, spec.read_options, spec, version.content)
        validation = validate(data, spec.thresholds, version.growth)
        arrays = normalize(data)
        find_code(models)
        trainings = [train.submit(arrays, model, settings[model], on) for model in models]
        scorings = [
            evaluate.submit(training, arrays, on)  # type: ignore[call-overload]
            for training in trainings
        ]
        for training in as_completed(trainings):
            training.result()  # the first that fails ends the run, and the others with it
        scored = [(t.result(), s.result()) for t, s in zip(trainings, scorings, strict=True)]
        made = (data, validation, arrays, *(made for pair in scored for made in pair))
        lineage = trace(made, workspace.records)
        decision = None
        while decision is None:
            incumbent = champion_score(arrays, on, dataset)
            decision = promote(data, scored, incumbent, rule=rule, lineage=lineage)
        page = report(
            title=spec.title,
            validation=validation,
            arrays=arrays,
            scored=scored,
            verdict=decision.standing,
            rival=decision.rival,
            lineage=lineage,
        )
        show_run(
            spec.title,
            validation=validation,
            arrays=arrays,
            scored=scored,
            decision=decision,
            lineage=lineage,
            report=page,
            version=version,
            steps=kept.steps,
            address=page_address,
        )
    keep_known_code()
    return RunResult(
        run=str(flow_run.name),
        data=version,
        models=tuple(model for model, _ in scored),
        evaluations=tuple(score for _, score in scored),
        decision=decision,
        report=page,
        steps=kept.steps,
    )


def champion_score(arrays: ArraysRef, device: str, dataset: str) -> EvaluationRef | None:
    """The champion's score on the present test set, scored again if its own is not of it.

    Raises DigitsError when it has to be scored and its bytes are not whole.
    """
    workspace = current_workspace()
    champion = Ledger(dataset, workspace.settings).champion()
    if champion is None:
        return None
    is_same_test = champion.evaluation.test_digest == arrays.test_digest
    if is_same_test and workspace.store.is_whole(champion.evaluation):
        return champion.evaluation
    try:
        workspace.store.verify(champion.model)
    except DamagedError as error:
        raise DigitsError(
            f"the champion, version {champion.number}, has to be scored on this test set, and is "
            f"not whole: {error}; put it back from a copy, or make another version champion with "
            "`digits rollback`"
        ) from error
    return evaluate(champion.model, arrays, device)
