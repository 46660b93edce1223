"""The pipeline, written once: which steps a run has, in which order, and what each is given.

It is a function over how a step is called: the flow `retrain` calls Prefect tasks, and `plan` looks
each call up in the cache instead. A new step is called here and listed in Steps; neither works
without it then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from digits.datasets.sources.content import content_of
from digits.datasets.versions import DatasetVersion
from digits.errors import UsageError
from digits.models import TrainingSettings
from digits.recipes import training_settings
from digits.registry.ledger import Ledger
from digits.registry.promotion import Decision, RunOutcome
from digits.registry.promotion_rule import Rule
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.lineage import trace
from digits.storage.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    ModelRef,
    OnnxRef,
    ReportRef,
    ValidationRef,
)
from digits.storage.workspace import Workspace
from digits.training.devices import Device, resolve_device
from digits.training.precisions import PrecisionChoice, fastest_precision, forced_precision

Made_co = TypeVar("Made_co", covariant=True)


class Pending(Protocol[Made_co]):
    """A step that may still be running."""

    def result(self) -> Made_co:
        """Wait for the step and return what it made; raises its error."""


class Submittable(Protocol[Made_co]):
    """A step that can run next to others. It takes a Pending in place of what that will make."""

    @property
    def submit(self) -> Callable[..., Pending[Made_co]]:
        """Start the step, called by keyword."""


@dataclass(frozen=True)
class Steps:
    """How each step is called, by keyword. Prefect's tasks are called so."""

    add_incoming: Callable[..., DatasetVersion]
    ingest: Callable[..., DatasetRef]
    validate: Callable[..., ValidationRef]
    normalize: Callable[..., ArraysRef]
    train: Submittable[ModelRef]
    evaluate: Submittable[EvaluationRef]
    score_champion: Callable[..., EvaluationRef | None]
    models_to_convert: Callable[..., Sequence[ModelRef]]
    convert: Callable[..., OnnxRef]
    promote: Callable[..., Decision | None]
    report: Callable[..., ReportRef]
    wait: Callable[[Sequence[Pending[ModelRef]]], None]


@dataclass(frozen=True)
class Request:
    """What a run was asked for, checked: its dataset, and the settings of each model."""

    spec: DatasetSpec
    trainings: Mapping[str, TrainingSettings]
    device: str
    rule: Rule

    @classmethod
    def of(
        cls,
        dataset: str,
        *,
        models: Sequence[str],
        recipe: str,
        epochs: int | None,
        seed: int,
        device: Device,
        settings: Settings,
        precision: PrecisionChoice = "auto",
        require_significance: bool = False,
    ) -> Self:
        """Check a request before anything is loaded or started.

        Raises UsageError for a request that cannot succeed, LedgerError for a corrupted ledger.
        """
        spec = load_spec(dataset, settings)
        on = resolve_device(device)
        if not models:
            raise UsageError("no model to train: name at least one, as in --models mlp,cnn")
        if len(set(models)) < len(models):
            raise UsageError(f"--models has a duplicate: {','.join(models)}")
        trainings = {
            model: training_settings(
                recipe,
                model,
                epochs=epochs,
                seed=seed,
                fastest=fastest_precision(on).precision,
                precision=forced_precision(precision, on),
            )
            for model in models
        }
        Ledger(dataset, settings).entries()
        rule = Rule(floor=spec.floor, require_significance=require_significance)
        return cls(spec, trainings, on, rule)


@dataclass(frozen=True)
class Prepared:
    """A dataset that is ready for training; `arrays` are those that models read."""

    version: DatasetVersion
    dataset: DatasetRef
    validation: ValidationRef
    arrays: ArraysRef


def run_pipeline(request: Request, steps: Steps, workspace: Workspace) -> RunOutcome:
    """Call every step of a run in order; the models are trained and evaluated side by side."""
    prepared, device = prepare(request.spec, steps, workspace), request.device
    arrays = prepared.arrays
    pairs = []
    for model, settings in request.trainings.items():
        training = steps.train.submit(arrays=arrays, model=model, settings=settings, device=device)
        evaluation = steps.evaluate.submit(model=training, arrays=arrays, device=device)
        pairs.append((training, evaluation))
    steps.wait([training for training, _ in pairs])
    scored = [(training.result(), evaluation.result()) for training, evaluation in pairs]
    return conclude(request, prepared, scored, steps, workspace)


def prepare(spec: DatasetSpec, steps: Steps, workspace: Workspace) -> Prepared:
    """Call the steps before the training, which depend on the dataset alone."""
    version = steps.add_incoming(spec=spec)
    dataset = steps.ingest(
        layout=spec.layout,
        content=content_of(spec, workspace.settings),
        read_options=spec.read_options,
        sources=spec,
        batches=version.content,
    )
    validation = steps.validate(dataset=dataset, thresholds=spec.thresholds, growth=version.growth)
    return Prepared(version, dataset, validation, arrays=steps.normalize(dataset=dataset))


def conclude(
    request: Request,
    prepared: Prepared,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    steps: Steps,
    workspace: Workspace,
) -> RunOutcome:
    """Call the steps after the training: the decision about the champion, and the report."""
    spec, device, arrays = request.spec, request.device, prepared.arrays
    made = (
        *(prepared.dataset, prepared.validation, arrays),
        *(one for pair in scored for one in pair),
    )
    lineage = trace(filter(None, made), workspace.records)
    decision = None
    while decision is None:  # another run has changed the champion meanwhile
        incumbent = steps.score_champion(dataset=spec.name, arrays=arrays, device=device)
        decided = {"scored": scored, "incumbent": incumbent, "rule": request.rule}
        models = steps.models_to_convert(dataset=spec.name, **decided)
        forms = [steps.convert(model=model, arrays=arrays, device=device) for model in models]
        decision = steps.promote(dataset=prepared.dataset, lineage=lineage, forms=forms, **decided)
    report = steps.report(
        title=spec.title,
        validation=prepared.validation,
        arrays=arrays,
        scored=scored,
        verdict=decision.standing,
        rival=decision.rival,
        lineage=lineage,
    )
    return RunOutcome(
        prepared.version, prepared.validation, arrays, scored, lineage, decision, report
    )
