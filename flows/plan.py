"""What a run would do now, and why: each step's key, looked up without running anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from types import SimpleNamespace
from typing import Any, Literal

from digits.cache.differences import differences, surrounding_differences
from digits.cache.keys import STEPS, step_key, step_label
from digits.datasets.versions import DatasetVersions
from digits.errors import DamagedError
from digits.intake.incoming import incoming_folder, names_waiting
from digits.registry.ledger import (
    Ledger,
    Verdict,
    champion_of,
    standing_verdict,
    versions_of,
)
from digits.registry.promotion import models_to_convert, needs_score
from digits.registry.promotion_rule import choose_candidate
from digits.spec import DatasetSpec
from digits.storage.records import Record, StepKey
from digits.storage.references import ArraysRef, EvaluationRef, Frozen, Reference
from digits.storage.workspace import Workspace
from flows.pipeline import Request, Steps, run_pipeline

Would = Literal["run", "stay cached", "depend"]
BEFORE = "a step before it would run; equal output keeps it cached"
IF_PROMOTED = "only the models of a run that promotes one are converted"
# The arguments that a step before may have to make first, and what it means that it has not.
MADE_BY_STEPS = {
    **dict.fromkeys(("batches", "dataset", "validation", "arrays", "model", "scored"), BEFORE),
    "verdict": "another decision makes another page",
}
# Records that a key is compared with, and differences that are named in a line.
NUM_COMPARED, NUM_NAMED = 10, 3


class PlannedStep(Frozen):
    """One step: whether it would run, and why; `changes` lists all differences from before.

    "depend" is for a step whose input is unknown before another has run: it stays cached if that
    one makes what it made before.
    """

    step: str
    would: Would
    reason: str
    changes: tuple[str, ...] = ()


class Planner:
    """Looks the steps of a run up in the cache instead of running them, and notes what it finds.

    Of large files it checks only the size, and says so: a plan takes the same short time on any
    data. A run verifies every byte.
    """

    def __init__(self, request: Request, workspace: Workspace) -> None:
        self.steps: list[PlannedStep] = []
        self._models = tuple(request.trainings)
        self._workspace = workspace
        self._entries = Ledger(request.spec.name, workspace.settings).entries()
        self._versions = {
            made.made_by: version.number
            for version in versions_of(self._entries).values()
            for made in (version.model, version.evaluation)
        }

    def callable_steps(self) -> Steps:
        """Return every step of the pipeline as a lookup."""
        # A sweep's own steps are none of a run.
        of_runs = STEPS.keys() & {field.name for field in fields(Steps)}
        lookups: dict[str, Any] = {name: Lookup(self, name) for name in of_runs}
        return Steps(
            add_incoming=self._add_incoming,
            score_champion=self._score_champion,
            models_to_convert=self._models_to_convert,
            promote=self._promote,
            wait=lambda _: None,
            **lookups,
        )

    def look_up(self, step: str, label: str, arguments: Mapping[str, Any]) -> Reference | None:
        """Plan one step; return its cached result, or None if it would run or is unknown."""
        for name, reason in MADE_BY_STEPS.items():
            if name in arguments and _is_unknown(arguments[name]):
                self._add(label, "depend", reason)
                return None
        key = step_key(step, arguments)
        try:
            record = self._workspace.records.read(key.digest)
            measured = self._workspace.store.glance(record.reference) if record else []
        except DamagedError as error:
            self._add(label, "run", str(error))
            return None
        if record is None:
            self._explain(label, key, step_label(step, arguments))
            return None
        reason = f"made in {self._origin(record)}"
        if "device" in arguments:
            elsewhere = surrounding_differences(record.processor, record.variables)
            reason = "; ".join((reason, *elsewhere))
        if measured and self._workspace.store.is_shared:
            reason += "; not on this machine yet, so only the sizes were checked"
        elif measured:
            reason += f"; large, so only the size was checked: {', '.join(measured)}"
        self._add(label, "stay cached", reason)
        return record.reference

    def _add_incoming(self, *, spec: DatasetSpec) -> Any:
        settings = self._workspace.settings
        names = names_waiting(spec.name, settings)
        if not names:
            return DatasetVersions(spec.name, settings).current()
        more = f", and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
        folder = incoming_folder(spec.name, settings)
        self._add("add incoming", "run", f"in {folder}: {', '.join(names[:NUM_NAMED])}{more}")
        return SimpleNamespace(content=None, growth=None)

    def _score_champion(self, *, arrays: ArraysRef | None, device: str, **_: Any) -> Any:
        champion = champion_of(self._entries)
        if champion is None or arrays is None:
            return None
        if not needs_score(champion, arrays, self._workspace.store.glance):
            return champion.evaluation
        arguments = {"model": champion.model, "arrays": arrays, "device": device}
        return self.look_up("evaluate", "evaluate champion", arguments)

    def _models_to_convert(self, *, scored: Sequence[Any], incumbent: Any, **decided: Any) -> Any:
        """Return the models that the run would convert, or note those that it may convert."""
        is_undecided = incumbent is None and champion_of(self._entries) is not None
        if _is_unknown(scored) or is_undecided:
            for model in self._models:
                self._add(f"convert {model}", "depend", IF_PROMOTED)
            return []
        return models_to_convert(
            scored=scored, incumbent=incumbent, workspace=self._workspace, **decided
        )

    def _promote(self, *, scored: Sequence[tuple[Any, EvaluationRef | None]], **_: Any) -> Any:
        self._add("promote", "run", "the decision is about the present champion")
        verdict = self._known_verdict([score for _, score in scored])
        rival = versions_of(self._entries).get(verdict.champion_before or 0) if verdict else None
        return SimpleNamespace(standing=verdict, rival=rival)

    def _known_verdict(self, scores: Sequence[EvaluationRef | None]) -> Verdict | None:
        """Return what the report is about if the best model is already the champion."""
        known = [score for score in scores if score]
        champion = champion_of(self._entries)
        if champion is None or len(known) < len(scores):
            return None
        is_champion = choose_candidate(known).model_digest == champion.model.digest
        return standing_verdict(self._entries, champion) if is_champion else None

    def _add(self, label: str, would: Would, reason: str, changes: Sequence[str] = ()) -> None:
        step = PlannedStep(step=label, would=would, reason=reason, changes=tuple(changes))
        self.steps.append(step)

    def _explain(self, label: str, key: StepKey, known_as: str) -> None:
        """Note that a step would run, and how its key differs from the most similar record's."""
        same = (record for record in self._workspace.records.all() if record.label == known_as)
        comparable = (record for record in same if _dataset(record.key) == _dataset(key))
        compared = [
            (list(differences(record.key, key)), record)
            for record in islice(comparable, NUM_COMPARED)
        ]
        if not compared:
            self._add(label, "run", "it never ran")
            return
        # The first of equals is the last that was used.
        changes, record = min(compared, key=lambda pair: len(pair[0]))
        named = "; ".join(changes[:NUM_NAMED])
        if len(changes) > NUM_NAMED:
            named += f"; and {len(changes) - NUM_NAMED} more"
        self._add(label, "run", f"{named} since {self._origin(record)}", changes)

    def _origin(self, record: Record) -> str:
        number = self._versions.get(record.key.digest)
        return f"v{number}" if number else f"{record.run_name}, {record.created:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Lookup:
    """A cached step, called as its task is, that is looked up instead of run."""

    planner: Planner
    step: str

    def __call__(self, **arguments: Any) -> Any:
        """Look the step up; see Planner.look_up."""
        found = {
            name: value.reference if isinstance(value, Found) else value
            for name, value in arguments.items()
        }
        return self.planner.look_up(self.step, step_label(self.step, arguments), found)

    def submit(self, *, model: Any, **arguments: Any) -> "Found":
        """Look the step up at once."""
        return Found(self(model=model, **arguments), getattr(model, "model", model))


@dataclass(frozen=True)
class Found:
    """The result of a lookup, in place of a future; `model` is the model's name."""

    reference: Reference | None
    model: str

    def result(self) -> Any:
        """Return what was found."""
        return self.reference


def plan_run(request: Request, workspace: Workspace) -> list[PlannedStep]:
    """Plan the steps of a run, as `digits run` would call them."""
    planner = Planner(request, workspace)
    run_pipeline(request, planner.callable_steps(), workspace)
    return planner.steps


def _is_unknown(value: object) -> bool:
    """Whether a step before would have to run to make a value, or something in it."""
    return value is None or (isinstance(value, list | tuple) and any(map(_is_unknown, value)))


def _dataset(key: StepKey) -> object:
    """Return the name of the dataset that a step is called with, if it is."""
    layout = key.inputs.get("layout")
    return layout.get("name") if isinstance(layout, dict) else None
