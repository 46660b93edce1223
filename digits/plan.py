"""What a run would do now, and why: each step's key, looked up without running anything."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from digits.dataset import DatasetSpec
from digits.devices import Device, resolve_device
from digits.errors import DamagedError
from digits.ledger import Entry, Judgement, Version, champion_of, standing_judgement, versions_of
from digits.lineage import trace
from digits.promotion import choose_candidate
from digits.recipes import training_settings
from digits.records import Record, StepKey
from digits.references import EvaluationRef, Frozen, Reference
from digits.sources import content_of
from digits.steps import step_key
from digits.workspace import Workspace

Would = Literal["run", "stay cached", "depend"]
# The arguments of steps that other steps make.
INPUTS = frozenset({"arrays", "dataset", "model"})
BEFORE = "a step before it would run; equal output keeps it cached"


class PlannedStep(Frozen):
    """One step: whether it would run, and why.

    "depends" stands for a step whose input is not known before another has run: it stays cached if
    that one gives what it gave before.
    """

    step: str
    would: Would
    reason: str


class Planner:
    """Walks the steps of a run as the flow does, on what the cache knows."""

    def __init__(self, versions: Mapping[int, Version], workspace: Workspace) -> None:
        self.steps: list[PlannedStep] = []
        self._workspace = workspace
        self._versions = {version.model.made_by: version.number for version in versions.values()}

    def look(self, label: str, **arguments: Any) -> Reference | None:
        """Plan one step; its cached result, or None where it would run or nothing is known."""
        name = label.partition(" ")[0]
        if any(arguments[name] is None for name in arguments.keys() & INPUTS):
            self.add(label, "depend", BEFORE)
            return None
        key = step_key(name, arguments)
        try:
            record = self._workspace.records.verified(key.digest)
        except DamagedError as error:
            self.add(label, "run", str(error))
            return None
        if record is None:
            self.add(label, "run", self._why(key))
            return None
        self.add(label, "stay cached", f"made in {self._origin(record)}")
        return record.reference

    def add(self, label: str, would: Would, reason: str) -> None:
        """Note what a step would do, and why."""
        self.steps.append(PlannedStep(step=label, would=would, reason=reason))

    def _why(self, key: StepKey) -> str:
        """The differences to the record that is nearest to `key`."""
        candidates = [
            (list(differences(record.key, key)), record)
            for record in self._workspace.records.of_step(key.step)
            if record.key.inputs.get("model") == key.inputs.get("model") or key.step != "train"
        ]
        if not candidates:
            return "it never ran"
        found, record = min(
            candidates, key=lambda pair: (len(pair[0]), -pair[1].created.timestamp())
        )
        return f"{'; '.join(found)} since {self._origin(record)}"

    def _origin(self, record: Record) -> str:
        number = self._versions.get(record.key.digest)
        return f"v{number}" if number else f"{record.run_name}, {record.created:%Y-%m-%d %H:%M}"


def plan_run(
    spec: DatasetSpec,
    *,
    models: list[str],
    recipe: str,
    epochs: int | None,
    seed: int,
    device: Device,
    workspace: Workspace,
) -> list[PlannedStep]:
    """What `digits run` with the same options would do."""
    on = resolve_device(device)
    entries = workspace.ledger(spec.name).entries()
    planner = Planner(versions_of(entries), workspace)
    content = content_of(spec, workspace.settings)
    dataset = planner.look("ingest", layout=spec.layout, content=content, sources=spec)
    validation = planner.look("validate", dataset=dataset, thresholds=spec.thresholds)
    arrays = planner.look("normalize", dataset=dataset)
    scored = []
    for model in models:
        settings = training_settings(recipe, model, epochs=epochs, seed=seed)
        training = planner.look(
            f"train {model}", arrays=arrays, model=model, settings=settings, device=on
        )
        score = planner.look(f"evaluate {model}", model=training, arrays=arrays, device=on)
        scored.append((training, score))
    planner.add("promote", "run", "the decision is about the present champion")
    made = (dataset, validation, arrays, *(made for pair in scored for made in pair))
    grounds = _known_judgement(entries, [score for _, score in scored])
    if None in made:
        planner.add("report", "depend", BEFORE)
    elif grounds is None:
        planner.add("report", "depend", "another decision makes another page")
    else:
        planner.look(
            "report",
            title=spec.title,
            validation=validation,
            arrays=arrays,
            scored=scored,
            judgement=grounds,
            rival=versions_of(entries).get(grounds.champion_before or 0),
            lineage=trace(filter(None, made), workspace.records),
        )
    return planner.steps


def _known_judgement(entries: list[Entry], scores: list[Reference | None]) -> Judgement | None:
    """What the page would be about, where the best model is the champion already."""
    known = [score for score in scores if isinstance(score, EvaluationRef)]
    champion = champion_of(entries)
    if champion is None or len(known) < len(scores):
        return None
    is_champion = choose_candidate(known).model_digest == champion.model.digest
    return standing_judgement(entries, champion) if is_champion else None


def differences(then: StepKey, now: StepKey) -> Iterator[str]:
    """What differs between two keys of a step, each in a few words."""
    for place in sorted(then.code.keys() | now.code.keys()):
        if place not in then.code:
            yield f"{place} added"
        elif place not in now.code:
            yield f"{place} gone"
        elif then.code[place] != now.code[place]:
            yield f"{place} changed"
    for name in sorted(then.libraries.keys() | now.libraries.keys()):
        before, after = then.libraries.get(name, "none"), now.libraries.get(name, "none")
        if before != after:
            yield f"{name} {before} -> {after}"
    yield from _value_differences("", then.inputs, now.inputs)


def _value_differences(place: str, then: Any, now: Any) -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            inner = f"{place}.{name}" if place else str(name)
            yield from _value_differences(inner, then.get(name), now.get(name))
    elif then != now:
        yield f"{place} {_short(then)} -> {_short(now)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
