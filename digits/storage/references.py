"""The values passed between steps: references to bundles by digest, plus a few facts.

They are frozen, contain no arrays or paths, and are persisted as JSON, so reading them back never
requires unpickling.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from digits.models import TrainingSettings
from digits.spec import Layout

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Empty for results made outside a run.
Key = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Kind = Literal[
    "datasets", "arrays", "validations", "models", "evaluations", "onnx", "reports", "lineages"
]


class Frozen(BaseModel):
    """An immutable value that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(Frozen):
    """A bundle in the store: `digest` is the SHA-256 of its manifest.

    `made_by` is the cache key of the step that made it (empty outside a run). It only records
    provenance; later steps never depend on it.
    """

    kind: ClassVar[Kind]
    digest: Digest
    made_by: Key = ""

    @property
    def content(self) -> str:
        """The digest that later steps depend on: while it is unchanged, they stay cached."""
        return self.digest

    @property
    def name(self) -> str:
        """The bundle's name in a store: "models/DIGEST"."""
        return f"{self.kind}/{self.digest}"


class DatasetRef(Reference):
    """A dataset as two Parquet files.

    `content_digest` covers only pixels and labels, so re-encoding the same images as Parquet
    changes nothing downstream; `test_digest` is the same for the test split.
    """

    kind: ClassVar[Kind] = "datasets"
    layout: Layout
    num_train: int
    num_test: int
    content_digest: Digest
    test_digest: Digest

    @property
    def content(self) -> str:
        """The digest of images and labels, independent of how the files are encoded."""
        return self.content_digest


class ValidationRef(Reference):
    """A passed validation: result.json and page.html.

    `num_shared_images` is the number of test images that are also training images.
    """

    kind: ClassVar[Kind] = "validations"
    num_expectations: int
    warnings: tuple[str, ...] = ()
    num_shared_images: int = 0


class ArraysRef(Reference):
    """Memory-mappable arrays: x_*.npy float32 (N, H, W, 1) in 0..1, y_*.npy int32 (N,)."""

    kind: ClassVar[Kind] = "arrays"
    layout: Layout
    num_train: int
    num_test: int
    test_digest: Digest


class ModelRef(Reference):
    """A trained model: model.keras and history.json. `seconds` is the wall time of the training."""

    kind: ClassVar[Kind] = "models"
    model: str
    num_parameters: int
    settings: TrainingSettings
    device: str
    seconds: float


class EvaluationRef(Reference):
    """A model's score on one test set: metrics.json and predictions.parquet.

    `interval` is the 95% Wilson score interval of the accuracy, `loss` the mean cross-entropy in
    nats, `test_digest` identifies the test set.
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


class OnnxRef(Reference):
    """A model's ONNX form: model.onnx, which loads without Keras.

    Its input "image" is float32 (N, H, W, 1) in 0..1, its output "output_0" class probabilities
    float32 (N, K). `model_digest` is that of the Keras model; Both give the same label to each of
    `num_images` test images; `num_correct` of these labels are right.
    """

    kind: ClassVar[Kind] = "onnx"
    model: str
    model_digest: Digest
    num_images: int
    num_correct: int

    @property
    def accuracy(self) -> float:
        """The share of test images with the right label."""
        return self.num_correct / self.num_images


class ReportRef(Reference):
    """The report page of a run: report.html."""

    kind: ClassVar[Kind] = "reports"
