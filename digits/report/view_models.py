"""The facts that a report shows, as read from a run's bundles and the ledger."""

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
    """Whether a text is a SHA-256 hex digest."""
    return DIGEST.fullmatch(text) is not None


# With more classes the numbers in a confusion matrix would be too small to read.
MAX_COUNTED_CLASSES = 20


class Facts(BaseModel):
    """Base class for the facts of a page. Unknown fields are ignored: files may contain more."""

    model_config = ConfigDict(frozen=True)


class ClassScore(Facts):
    """Precision, recall and number of test images of one class."""

    name: str
    precision: float
    recall: float
    support: int


class ShiftScore(Facts):
    """Accuracy on test images shifted by a number of pixels."""

    pixels: int
    accuracy: float


class Metrics(Facts):
    """Content of metrics.json. `confusion` (K, K): rows are true classes, columns predicted."""

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
    """Metrics of one epoch; val_* are on the test set and may be missing."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float = float("nan")
    val_accuracy: float = float("nan")


class History(Facts):
    """Content of history.json."""

    epochs: tuple[Epoch, ...]


class ModelFacts(Facts):
    """One trained and evaluated model. `predictions` is the path of its predictions.parquet.

    `settings` are shown unchanged and in order; `seconds` is the wall time of training.
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

    The digests are those of its model, its evaluation and its lineage.
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
    """The dataset. `class_counts` maps each split to its number of images per class.

    `batches` are the digests of the batches added to the sources in the dataset spec.
    """

    title: str
    layout: Layout
    test_digest: str
    class_counts: Mapping[str, tuple[int, ...]]
    batches: tuple[str, ...] = ()


class ValidationFacts(Facts):
    """Result of the validation, which passed: a run with a report has valid data.

    `num_shared_images` is the number of test images that are also training images.
    """

    num_expectations: int
    warnings: tuple[str, ...] = ()
    num_shared_images: int = 0


class StepFacts(Facts):
    """One step that led to the page. `inputs` maps names to digests or plain values.

    `code` is the digest of all code that the step reaches, `key` its cache key, `output` the
    digest of its result, and `processor` what it ran on, or empty if that was not recorded.
    """

    label: str
    inputs: Mapping[str, str]
    code: str
    key: str
    output: str
    processor: str = ""


@dataclass(frozen=True)
class ReportFacts:
    """Everything that a page shows: equal facts give byte-identical pages.

    `champion` is None if there was none before. `x_test` are the test images (N, H, W) or
    (N, H, W, 1), uint8 or float in 0..1; `y_test` are their classes, int (N,). `libraries` maps
    names to versions.
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
        """Step labels by the processor that the steps ran on."""
        steps: dict[str, list[str]] = {}
        for step in self.lineage:
            if step.processor:
                steps.setdefault(step.processor, []).append(step.label)
        return steps

    @property
    def digests(self) -> dict[str, str]:
        """All digests, by what they identify."""
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
