"""What passes between steps: references to content in the store by its digest, plus a few facts.

They hold no arrays and no paths, are frozen, and are persisted as JSON, so that nothing which a run
reads back has to be unpickled.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from digits.models import TrainingSettings
from digits.spec import Layout

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Of what was made outside a run, nothing is known.
Key = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Kind = Literal["datasets", "arrays", "validations", "models", "evaluations", "reports", "lineages"]


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(Frozen):
    """A bundle in the store: `digest` is the SHA-256 of its manifest.

    `made_by` is the cache key of the step that made it (empty outside a run). It is a fact about
    provenance and never part of what later steps depend on.
    """

    kind: ClassVar[Kind]
    digest: Digest
    made_by: Key = ""

    @property
    def content(self) -> str:
        """What the steps after it depend on; equal content keeps them cached."""
        return self.digest


class DatasetRef(Reference):
    """A dataset as two Parquet files.

    `content_digest` covers pixels and labels alone, so that another Parquet encoding of the same
    images changes nothing downstream; `test_digest` the same for the test split.
    """

    kind: ClassVar[Kind] = "datasets"
    layout: Layout
    num_train: int
    num_test: int
    content_digest: Digest
    test_digest: Digest

    @property
    def content(self) -> str:
        """The images and what they are called, however their files are encoded."""
        return self.content_digest


class ValidationRef(Reference):
    """A passed validation: result.json and page.html."""

    kind: ClassVar[Kind] = "validations"
    num_expectations: int
    warnings: tuple[str, ...] = ()


class ArraysRef(Reference):
    """x_*.npy float32 (N, H, W, 1) in 0..1 and y_*.npy int32 (N,), ready to be memory-mapped."""

    kind: ClassVar[Kind] = "arrays"
    layout: Layout
    num_train: int
    num_test: int
    test_digest: Digest


class ModelRef(Reference):
    """A trained model: model.keras and history.json. `seconds` is the training's wall time."""

    kind: ClassVar[Kind] = "models"
    model: str
    num_parameters: int
    settings: TrainingSettings
    device: str
    seconds: float


class EvaluationRef(Reference):
    """A model's score on one test set: metrics.json and predictions.parquet.

    `interval` is the 95% Wilson score interval of the accuracy, `loss` the mean cross-entropy in
    nats, `test_digest` names the test set.
    """

    kind: ClassVar[Kind] = "evaluations"
    model: str
    model_digest: Digest
    test_digest: Digest
    num_parameters: int
    num_images: int
    num_correct: int
    accuracy: float
    interval: tuple[float, float]
    loss: float


class ReportRef(Reference):
    """A run's page: report.html."""

    kind: ClassVar[Kind] = "reports"
