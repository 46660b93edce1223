"""The facts that a model card states, from the ledger and the bundles of a version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from digits.cards.font_pictures import FontScore, score_fonts
from digits.errors import DamagedError, NoOnnxFormError
from digits.inference.loaded_versions import load_version
from digits.recipes import RECIPES
from digits.registry.ledger import Ledger, ModelVersion, Verdict, find_version, standing_verdict
from digits.report.view_models import Metrics
from digits.spec import DatasetSpec, load_spec
from digits.storage.lineage import Lineage, read_lineage
from digits.storage.references import DatasetRef
from digits.storage.workspace import Workspace

# What a run may change of a recipe's settings, and what its device decides.
CHOSEN = {"epochs", "seed", "precision"}


@dataclass(frozen=True)
class CardFacts:
    """A model version, the decision that promoted it, what it was made from and how it scores.

    `num_train` is None if the record of the dataset was deleted. `fonts` is None if the classes are
    not digits, or the version has no ONNX form to label pictures with.
    """

    spec: DatasetSpec
    version: ModelVersion
    verdict: Verdict
    lineage: Lineage
    metrics: Metrics
    num_train: int | None
    fonts: FontScore | None

    @property
    def content(self) -> Mapping[str, str]:
        """The SHA-256 of each source file, and of each batch that was added, by name."""
        inputs = self.inputs_of("ingest")
        return {
            name: digest
            for part in ("content", "batches")
            for name, digest in (inputs.get(part) or {}).items()
        }

    @property
    def recipe(self) -> str | None:
        """The name of the recipe, or None if no recipe has these settings now."""
        settings = self.version.model.settings.model_dump(exclude=CHOSEN)
        for name, models in RECIPES.items():
            known = models.get(self.version.model.model)
            if known is not None and known.model_dump(exclude=CHOSEN) == settings:
                return name
        return None

    def inputs_of(self, step: str) -> Mapping[str, Any]:
        """Return the inputs of a step of the lineage; none if it was not recorded."""
        return self.lineage[step].key.inputs if step in self.lineage else {}


def card_facts(dataset: str, number: int | None, workspace: Workspace) -> CardFacts:
    """Collect the facts about a version, by default the champion.

    Raises UsageError if there is no such version, DamagedError if its bundles are corrupted.
    """
    from digits.registry.champion import champion_version
    from digits.report.run_report import read_facts

    spec = load_spec(dataset, workspace.settings)
    entries = Ledger(dataset, workspace.settings).entries()
    if number is None:
        number = champion_version(dataset, workspace).number
    version = find_version(entries, number, dataset)
    lineage = read_lineage(version.lineage, workspace.store)
    workspace.store.verify(version.evaluation)
    metrics = workspace.store.folder(version.evaluation) / "metrics.json"
    return CardFacts(
        spec=spec,
        version=version,
        verdict=standing_verdict(entries, version),
        lineage=lineage,
        metrics=read_facts(metrics, Metrics),
        num_train=_num_train(lineage, workspace),
        fonts=_fonts(dataset, number, workspace),
    )


def _num_train(lineage: Lineage, workspace: Workspace) -> int | None:
    if "ingest" not in lineage:
        return None
    try:
        record = workspace.records.read(lineage["ingest"].key.digest)
    except DamagedError:
        return None
    made = record.reference if record else None
    return made.num_train if isinstance(made, DatasetRef) else None


def _fonts(dataset: str, number: int, workspace: Workspace) -> FontScore | None:
    try:
        return score_fonts(load_version(dataset, workspace, number))
    except NoOnnxFormError:
        return None
