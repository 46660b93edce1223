"""The report of a run: one self-contained HTML page."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from digits.escaping import page_environment
from digits.report import sentences
from digits.report.charts import learning_chart, shift_chart
from digits.report.predictions_view import Answer, Answers
from digits.report.svg import NUM_TONES, heat, heat_uri
from digits.report.view_models import MAX_COUNTED_CLASSES, ModelFacts, ReportFacts, is_digest

NUM_IN_GRID = 30
NUM_MISTAKES = 12

"""With more classes the confusion matrix is an image without numbers."""

MAX_OPEN_ROWS = 12
"""Longer tables of classes are collapsed."""

# How each model sees an image; a model not listed here is compared by its numbers only.
SIGHT: Mapping[str, str] = {
    "mlp": "A flat list of pixels: their arrangement in the image is lost.",
    "cnn": "Spatial structure: the same small filters scan the entire image.",
}


def write_report(facts: ReportFacts, output: Path) -> None:
    """Write the page of a run to the file `output`; equal facts give equal bytes.

    Raises DamagedError if predictions are unreadable or do not match the test images.
    """
    output.write_text(render_report(facts), encoding="utf-8")


def render_report(facts: ReportFacts) -> str:
    """Render the page of a run as HTML; raises the same errors as `write_report`."""
    environment = page_environment()
    environment.filters |= {
        "certainty": sentences.certainty,
        "duration": sentences.duration,
        "share": sentences.share,
        "value": sentences.value,
    }
    environment.tests["digest"] = is_digest
    template = environment.get_template("report.html")
    return template.render(facts=facts, page=Page(facts), max_open_rows=MAX_OPEN_ROWS)


class Page:
    """Values that the template shows in addition to the facts."""

    def __init__(self, facts: ReportFacts) -> None:
        self._facts = facts
        self.headline = sentences.headline(facts.decision)
        self.models = [ModelPart(model, tone, facts) for tone, model in enumerate(facts.models)]
        self.class_names = facts.dataset.layout.class_names
        height, width = facts.dataset.layout.image_shape
        self.image_size = (width, height)

    def is_candidate(self, model: ModelFacts) -> bool:
        """Whether this model is the candidate of the decision."""
        return model.name == self._facts.decision.candidate

    @cached_property
    def settings(self) -> list[str]:
        """Names of all models' settings, in order."""
        return list(dict.fromkeys(name for model in self._facts.models for name in model.settings))

    @property
    def comparison(self) -> str:
        """Compare two models in words; empty unless there are exactly two."""
        if len(self.models) != 2:
            return ""
        sizes = {m.facts.name: m.facts.metrics.num_parameters for m in self.models}
        is_right = {m.facts.name: m.answers.is_right for m in self.models}
        return f"{sentences.parameters_remark(sizes)} {sentences.agreement_remark(is_right)}"

    @cached_property
    def shifts(self) -> dict[str, sentences.Shift]:
        """Accuracy by distance, for each model with measurements."""
        return {
            model.name: {score.pixels: score.accuracy for score in model.metrics.shift}
            for model in self._facts.models
            if model.metrics.shift
        }

    @property
    def shared_remark(self) -> str:
        """How many test images are also training images, in words; empty if none is."""
        num_test = sum(self._facts.dataset.class_counts["test"])
        return sentences.shared_remark(self._facts.validation.num_shared_images, num_test)

    @property
    def shift_remark(self) -> str:
        """Result of the shifts, in words."""
        return sentences.shift_remark(self.shifts)

    @property
    def widest_shift(self) -> int:
        """Distance in pixels at which the models differ most; 0 without shifted images."""
        return sentences.widest_shift(self.shifts)

    def shift_chart(self) -> str:
        """Draw accuracy by shift, all models in one chart."""
        tones = {model.name: tone for tone, model in enumerate(self._facts.models)}
        return shift_chart(self.shifts, tones, remark=self.shift_remark)


class ModelPart:
    """Values that the template shows for one model. `tone` is the index of its color."""

    def __init__(self, facts: ModelFacts, tone: int, report: ReportFacts) -> None:
        self.facts = facts
        self.tone = tone % NUM_TONES
        self._tone, self._models = tone, report.models
        self._names = report.dataset.layout.class_names
        self.sight = SIGHT.get(facts.name, "")
        self.answers = Answers(facts.predictions, report.x_test, report.y_test, self._names)
        self._confusion: npt.NDArray[np.int64] = np.array(facts.metrics.confusion, np.int64)

    @cached_property
    def first(self) -> list[Answer]:
        """Predictions for the first test images."""
        return self.answers.first(NUM_IN_GRID)

    @cached_property
    def worst(self) -> list[Answer]:
        """The most confident wrong predictions."""
        return self.answers.worst(NUM_MISTAKES)

    @property
    def num_wrong(self) -> int:
        """Number of misclassified test images."""
        return self.facts.metrics.num_images - self.facts.metrics.num_correct

    @property
    def confusion_remark(self) -> str:
        """The most frequent mistakes."""
        return sentences.confusion_remark(self._confusion, self._names)

    @property
    def confusion_image(self) -> str:
        """The confusion matrix as an image, if it has too many classes for numbers; else empty."""
        return heat_uri(self._confusion) if len(self._confusion) > MAX_COUNTED_CLASSES else ""

    def confusion_rows(self) -> Iterator[tuple[str, list[tuple[int, float]]]]:
        """Yield each true class with the count and color strength per predicted class."""
        for name, counts, shares in zip(
            self._names, self._confusion, heat(self._confusion), strict=True
        ):
            yield name, list(zip(counts.tolist(), shares.tolist(), strict=True))

    def learning_chart(self, figure: Literal["accuracy", "loss"]) -> str:
        """Draw train and test values by epoch; empty if none were recorded."""
        return learning_chart(self.facts, figure, tone=self._tone, models=self._models)
