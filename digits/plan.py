"""What a run would do now, and why: each step's key, looked up without running anything."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from digits.dataset import DatasetSpec
from digits.devices import Device, resolve_device
from digits.errors import DamagedError
from digits.ledger import Version
from digits.recipes import training_settings
from digits.records import Record, StepKey
from digits.references import ArraysRef, DatasetRef, Frozen, Reference
from digits.sources import content_of
from digits.steps import step_key
from digits.workspace import Workspace


class PlannedStep(Frozen):
    """One step: whether it would run, and why.

    "depends" stands for a step whose input is not known before another has run: it stays cached if
    that one gives what it gave before.
    """

    step: str
    would: Literal["run", "stay cached", "depend"]
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
        if any(value is None for value in arguments.values()):
            self._add(label, "depend", "a step before it would run; equal output keeps it cached")
            return None
        key = step_key(name, arguments)
        try:
            record = self._workspace.records.verified(key.digest)
        except DamagedError as error:
            self._add(label, "run", str(error))
            return None
        if record is None:
            self._add(label, "run", self._why(key))
            return None
        self._add(label, "stay cached", f"made in {self._origin(record)}")
        return record.reference

    def _add(self, label: str, would: Literal["run", "stay cached", "depend"], reason: str) -> None:
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
    models: list[str],
    recipe: str,
    epochs: int | None,
    seed: int,
    device: Device,
    workspace: Workspace,
) -> list[PlannedStep]:
    """What `digits run` with the same options would do."""
    on = resolve_device(device)
    planner = Planner(workspace.ledger(spec.name).versions(), workspace)
    content = content_of(spec, workspace.settings)
    dataset = planner.look("ingest", layout=spec.layout, content=content, sources=spec)
    assert dataset is None or isinstance(dataset, DatasetRef)
    validation = planner.look("validate", dataset=dataset, thresholds=spec.thresholds)
    arrays = planner.look("normalize", dataset=dataset)
    assert arrays is None or isinstance(arrays, ArraysRef)
    trained, scores = [], []
    for model in models:
        settings = training_settings(recipe, model, epochs=epochs, seed=seed)
        training = planner.look(
            f"train {model}", arrays=arrays, model=model, settings=settings, device=on
        )
        trained.append(training)
        scores.append(planner.look(f"evaluate {model}", model=training, arrays=arrays, device=on))
    planner.steps.append(
        PlannedStep(
            step="promote", would="run", reason="the decision is about the present champion"
        )
    )
    return planner.steps


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
