"""What a run would do now, and why: each step's key, looked up without running anything."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from digits.cache.differences import differences
from digits.cache.keys import step_key, step_label
from digits.datasets.sources.content import content_of
from digits.datasets.versions import DatasetVersions
from digits.errors import DamagedError
from digits.intake.incoming import incoming_folder, waiting
from digits.recipes import training_settings
from digits.registry.ledger import (
    Entry,
    Ledger,
    ModelVersion,
    Verdict,
    champion_of,
    standing_verdict,
    versions_of,
)
from digits.registry.promotion import choose_candidate
from digits.spec import DatasetSpec
from digits.storage.lineage import trace
from digits.storage.records import Record, StepKey
from digits.storage.references import ArraysRef, EvaluationRef, Frozen, Reference
from digits.storage.workspace import Workspace
from digits.training.devices import Device, resolve_device

Would = Literal["run", "stay cached", "depend"]
# The arguments of steps that other steps make.
INPUTS = frozenset({"arrays", "dataset", "model"})
BEFORE = "a step before it would run; equal output keeps it cached"
# Records that a key is compared with, and differences that are named in a line.
NUM_COMPARED, NUM_NAMED = 10, 3


class PlannedStep(Frozen):
    """One step: whether it would run, and why; `changes` lists all that differs from before.

    "depends" stands for a step whose input is not known before another has run: it stays cached if
    that one gives what it gave before.
    """

    step: str
    would: Would
    reason: str
    changes: tuple[str, ...] = ()


class Planner:
    """Walks the steps of a run as the flow does, on what the cache knows.

    Of large files only the size is looked at, and the reason then says so: a plan takes the same
    short time on any data, and a run checks every byte before it believes it.
    """

    def __init__(self, versions: Mapping[int, ModelVersion], workspace: Workspace) -> None:
        self.steps: list[PlannedStep] = []
        self._workspace = workspace
        self._versions = {
            made.made_by: version.number
            for version in versions.values()
            for made in (version.model, version.evaluation)
        }

    def look(self, step: str, label: str, **arguments: Any) -> Reference | None:
        """Plan one step; its cached result, or None where it would run or nothing is known."""
        if any(arguments[name] is None for name in arguments.keys() & INPUTS):
            self.add(label, "depend", BEFORE)
            return None
        key = step_key(step, arguments)
        try:
            record = self._workspace.records.read(key.digest)
            measured = self._workspace.store.glance(record.reference) if record else []
        except DamagedError as error:
            self.add(label, "run", str(error))
            return None
        if record is None:
            self._explain(label, key, step_label(step, arguments))
            return None
        reason = f"made in {self._origin(record)}"
        if measured:
            reason += f"; large, so that only the size was checked: {', '.join(measured)}"
        self.add(label, "stay cached", reason)
        return record.reference

    def await_batches(self, spec: DatasetSpec, workspace: Workspace) -> bool:
        """Note the batches that have come in and would be taken in first; whether there are any."""
        names = [entry.name for entry in waiting(spec.name, workspace.settings)]
        if names:
            named = ", ".join(names[:NUM_NAMED])
            if len(names) > NUM_NAMED:
                named += f", and {len(names) - NUM_NAMED} more"
            self.add(
                "add incoming",
                "run",
                f"in {incoming_folder(spec.name, workspace.settings)}: {named}",
            )
        return bool(names)

    def add(self, label: str, would: Would, reason: str, changes: Sequence[str] = ()) -> None:
        """Note what a step would do, and why."""
        step = PlannedStep(step=label, would=would, reason=reason, changes=tuple(changes))
        self.steps.append(step)

    def _explain(self, label: str, key: StepKey, known_as: str) -> None:
        """Note that a step would run for what differs from the record that is nearest to `key`."""
        same = (record for record in self._workspace.records.all() if record.label == known_as)
        comparable = (record for record in same if _dataset(record.key) == _dataset(key))
        compared = [
            (list(differences(record.key, key)), record)
            for record in islice(comparable, NUM_COMPARED)
        ]
        if not compared:
            self.add(label, "run", "it never ran")
            return
        # The first of equals is the last that was used.
        changes, record = min(compared, key=lambda pair: len(pair[0]))
        named = "; ".join(changes[:NUM_NAMED])
        if len(changes) > NUM_NAMED:
            named += f"; and {len(changes) - NUM_NAMED} more"
        self.add(label, "run", f"{named} since {self._origin(record)}", changes)

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
    entries = Ledger(spec.name, workspace.settings).entries()
    planner = Planner(versions_of(entries), workspace)
    version = DatasetVersions(spec.name, workspace.settings).current()
    dataset = None
    if planner.await_batches(spec, workspace):
        planner.add("ingest", "depend", BEFORE)
    else:
        content = content_of(spec, workspace.settings)
        dataset = planner.look(
            "ingest",
            "ingest",
            layout=spec.layout,
            content=content,
            read_options=spec.read_options,
            sources=spec,
            batches=version.content,
        )
    validation = planner.look(
        "validate",
        "validate",
        dataset=dataset,
        thresholds=spec.thresholds,
        growth=version.growth,
    )
    arrays = planner.look("normalize", "normalize", dataset=dataset)
    scored = []
    for model in models:
        settings = training_settings(recipe, model, epochs=epochs, seed=seed)
        training = planner.look(
            "train", f"train {model}", arrays=arrays, model=model, settings=settings, device=on
        )
        score = planner.look(
            "evaluate", f"evaluate {model}", model=training, arrays=arrays, device=on
        )
        scored.append((training, score))
    champion = champion_of(entries)
    if champion and isinstance(arrays, ArraysRef) and _needs_score(champion, arrays, workspace):
        planner.look(
            "evaluate", "evaluate champion", model=champion.model, arrays=arrays, device=on
        )
    planner.add("promote", "run", "the decision is about the present champion")
    made = (dataset, validation, arrays, *(made for pair in scored for made in pair))
    grounds = _known_verdict(entries, [score for _, score in scored])
    if None in made:
        planner.add("report", "depend", BEFORE)
    elif grounds is None:
        planner.add("report", "depend", "another decision makes another page")
    else:
        planner.look(
            "report",
            "report",
            title=spec.title,
            validation=validation,
            arrays=arrays,
            scored=scored,
            verdict=grounds,
            rival=versions_of(entries).get(grounds.champion_before or 0),
            lineage=trace(filter(None, made), workspace.records),
        )
    return planner.steps


def _needs_score(champion: ModelVersion, arrays: ArraysRef, workspace: Workspace) -> bool:
    """Whether the champion would be scored again, to be compared on the same test set."""
    if champion.evaluation.test_digest != arrays.test_digest:
        return True
    try:
        workspace.store.glance(champion.evaluation)
    except DamagedError:
        return True
    return False


def _dataset(key: StepKey) -> object:
    """The name of the dataset that a step is called with, where it is."""
    layout = key.inputs.get("layout")
    return layout.get("name") if isinstance(layout, dict) else None


def _known_verdict(entries: list[Entry], scores: list[Reference | None]) -> Verdict | None:
    """What the page would be about, where the best model is the champion already."""
    known = [score for score in scores if isinstance(score, EvaluationRef)]
    champion = champion_of(entries)
    if champion is None or len(known) < len(scores):
        return None
    is_champion = choose_candidate(known).model_digest == champion.model.digest
    return standing_verdict(entries, champion) if is_champion else None
