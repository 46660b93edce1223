"""What a report shows: the facts of a run, as the files of its bundles and the ledger have them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from digits.registry.ledger import Verdict
from digits.spec import Layout

Array = npt.NDArray[Any]
DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256."""
    return DIGEST.fullmatch(text) is not None


class Facts(BaseModel):
    """Part of what a page shows. Unknown fields are ignored, so that a file may hold more."""

    model_config = ConfigDict(frozen=True)


class ClassScore(Facts):
    """How well one class is recognized."""

    name: str
    precision: float
    recall: float
    support: int


class ShiftScore(Facts):
    """The accuracy on test images moved by so many pixels."""

    pixels: int
    accuracy: float


class Metrics(Facts):
    """The content of metrics.json. `confusion` (K, K): rows are true classes, columns predicted."""

    num_parameters: int
    num_images: int
    num_correct: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    shift: tuple[ShiftScore, ...] = ()


class Epoch(Facts):
    """One epoch's figures; val_* are on the test set, and may be missing."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float = float("nan")
    val_accuracy: float = float("nan")


class History(Facts):
    """The content of history.json."""

    epochs: tuple[Epoch, ...]


class ModelFacts(Facts):
    """One trained and evaluated model. `predictions` is its predictions.parquet.

    `settings` are shown as they are, in their order, `seconds` is the training's wall time.
    """

    name: str
    metrics: Metrics
    history: History
    settings: Mapping[str, Any]
    seconds: float
    device: str
    predictions: Path


class ChampionFacts(Facts):
    """The champion before this run's decision, scored on the test set of this run.

    The digests are those of its model, of that score, and of what it was made of.
    """

    version: int
    model: str
    num_parameters: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    seconds: float
    device: str
    model_digest: str
    score_digest: str
    lineage_digest: str


class DatasetFacts(Facts):
    """The dataset. `class_counts` gives, for each split, the number of images of each class.

    `batches` are the digests of what was added to what the spec names.
    """

    title: str
    layout: Layout
    test_digest: str
    class_counts: Mapping[str, tuple[int, ...]]
    batches: tuple[str, ...] = ()


class ValidationFacts(Facts):
    """What the validation found; that it was passed goes without saying."""

    num_expectations: int
    warnings: tuple[str, ...] = ()


class StepFacts(Facts):
    """One step that led to the page: what it was made from, by name, as a digest or as it is.

    `code` is the digest of all code that the step reaches, `key` the one that it is cached by,
    `output` that of what it made, `processor` the one that made it, or empty if it was not kept.
    """

    label: str
    inputs: Mapping[str, str]
    code: str
    key: str
    output: str
    processor: str = ""


@dataclass(frozen=True)
class ReportFacts:
    """All that a page shows: equal facts give an equal page, to the byte.

    `champion` is None where there was none before. `x_test` are the test images (N, H, W) or
    (N, H, W, 1), uint8 or float in 0..1, `y_test` their classes int (N,). `libraries` gives
    versions by name.
    """

    dataset: DatasetFacts
    decision: Verdict
    models: Sequence[ModelFacts]
    validation: ValidationFacts
    lineage: Sequence[StepFacts]
    libraries: Mapping[str, str]
    x_test: Array = field(repr=False)
    y_test: Array = field(repr=False)
    champion: ChampionFacts | None = None

    @property
    def processors(self) -> dict[str, list[str]]:
        """The steps by the processor that they ran on."""
        steps: dict[str, list[str]] = {}
        for step in self.lineage:
            if step.processor:
                steps.setdefault(step.processor, []).append(step.label)
        return steps

    @property
    def digests(self) -> dict[str, str]:
        """Every digest, by what it is of."""
        named = {"test set": self.dataset.test_digest}
        for step in self.lineage:
            named |= {f"{step.label}: {name}": text for name, text in step.inputs.items()}
            named |= {
                f"{step.label}: code": step.code,
                f"{step.label}: key": step.key,
                f"{step.label}: output": step.output,
            }
        if self.champion is not None:
            version = f"version {self.champion.version}"
            named |= {
                f"{version}: model": self.champion.model_digest,
                f"{version}: score": self.champion.score_digest,
                f"{version}: lineage": self.champion.lineage_digest,
            }
        return {name: text for name, text in named.items() if is_digest(text)}
