"""A run on one self-contained HTML page."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from digits.pages import page_environment
from digits.report import sentences
from digits.report.charts import learning_chart, shift_chart
from digits.report.predictions_view import Answer, Answers
from digits.report.svg import NUM_TONES, heat, heat_uri
from digits.report.view_models import ModelFacts, ReportFacts, is_digest

NUM_IN_GRID = 30
NUM_MISTAKES = 12

MAX_COUNTED_CLASSES = 20
"""With more classes the confusion matrix is an image without numbers."""

MAX_OPEN_ROWS = 12
"""A longer table of digests or classes is folded."""

# How a model sees an image, by its name; one that is not listed is compared by its figures alone.
SIGHT: Mapping[str, str] = {
    "mlp": "A flat list of pixels: which of them are neighbours is lost.",
    "cnn": "Space: the same small filters look at every neighbourhood of the image.",
}


def write_report(facts: ReportFacts, output: Path) -> None:
    """Write the page of a run to the file `output`; equal facts give equal bytes.

    Raises DamagedError when a model's predictions cannot be read or are not of the test images.
    """
    output.write_text(render_report(facts), encoding="utf-8")


def render_report(facts: ReportFacts) -> str:
    """The page of a run as HTML. Raises as `write_report` does."""
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
    """What the template shows beside the facts themselves."""

    def __init__(self, facts: ReportFacts) -> None:
        self._facts = facts
        self.headline = sentences.headline(facts.decision)
        self.models = [ModelPart(model, tone, facts) for tone, model in enumerate(facts.models)]
        self.class_names = facts.dataset.layout.class_names
        height, width = facts.dataset.layout.image_shape
        self.image_size = (width, height)

    def is_candidate(self, model: ModelFacts) -> bool:
        """Whether the decision was about this model."""
        return model.name == self._facts.decision.candidate

    @cached_property
    def settings(self) -> list[str]:
        """The names of all settings of all models, in their order."""
        return list(dict.fromkeys(name for model in self._facts.models for name in model.settings))

    @property
    def comparison(self) -> str:
        """How two models compare, in words; empty for another number of them."""
        if len(self.models) != 2:
            return ""
        sizes = {m.facts.name: m.facts.metrics.num_parameters for m in self.models}
        is_right = {m.facts.name: m.answers.is_right for m in self.models}
        return f"{sentences.parameters_remark(sizes)} {sentences.agreement_remark(is_right)}"

    @cached_property
    def shifts(self) -> dict[str, sentences.Shift]:
        """Accuracy by distance, of each model for which it was measured."""
        return {
            model.name: {score.pixels: score.accuracy for score in model.metrics.shift}
            for model in self._facts.models
            if model.metrics.shift
        }

    @property
    def shift_remark(self) -> str:
        """What the shifted images show."""
        return sentences.shift_remark(self.shifts)

    @property
    def widest_shift(self) -> int:
        """The distance in pixels at which the models differ most; 0 without moved images."""
        return sentences.widest_shift(self.shifts)

    def shift_chart(self) -> str:
        """Accuracy against shift, all models in one chart."""
        tones = {model.name: tone for tone, model in enumerate(self._facts.models)}
        return shift_chart(self.shifts, tones, remark=self.shift_remark)


class ModelPart:
    """What the template shows of one model. `tone` is its colour on the page."""

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
        """The answers to the first test images."""
        return self.answers.first(NUM_IN_GRID)

    @cached_property
    def worst(self) -> list[Answer]:
        """The surest wrong answers."""
        return self.answers.worst(NUM_MISTAKES)

    @property
    def num_wrong(self) -> int:
        """How many test images the model misread."""
        return self.facts.metrics.num_images - self.facts.metrics.num_correct

    @property
    def confusion_remark(self) -> str:
        """The most frequent mistakes."""
        return sentences.confusion_remark(self._confusion, self._names)

    @property
    def confusion_image(self) -> str:
        """The confusion matrix as an image, where there are too many classes for numbers."""
        return heat_uri(self._confusion) if len(self._confusion) > MAX_COUNTED_CLASSES else ""

    def confusion_rows(self) -> Iterator[tuple[str, list[tuple[int, float]]]]:
        """Each true class, and for each predicted one the count and how strongly to colour it."""
        for name, counts, shares in zip(
            self._names, self._confusion, heat(self._confusion), strict=True
        ):
            yield name, list(zip(counts.tolist(), shares.tolist(), strict=True))

    def learning_chart(self, figure: Literal["accuracy", "loss"]) -> str:
        """Train and test figures by epoch; empty where nothing was recorded."""
        return learning_chart(self.facts, figure, tone=self._tone, models=self._models)
