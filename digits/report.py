"""A run on one self-contained HTML page."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from digits import remarks
from digits.answers import Answer, Answers
from digits.facts import ModelFacts, ReportFacts
from digits.figures import NUM_TONES, Curve, draw_curves, heat, heat_uri
from digits.pages import page_environment

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

DIGEST = re.compile(r"[0-9a-f]{64}")


def write_report(facts: ReportFacts, output: Path) -> None:
    """Write the page of a run to the file `output`; equal facts give equal bytes.

    Raises DamagedError when a model's predictions cannot be read or are not of the test images.
    """
    output.write_text(render_report(facts), encoding="utf-8")


def render_report(facts: ReportFacts) -> str:
    """The page of a run as HTML. Raises as `write_report` does."""
    environment = page_environment()
    environment.filters |= {
        "certainty": certainty,
        "duration": duration,
        "share": share,
        "value": value,
    }
    environment.tests["digest"] = is_digest
    template = environment.get_template("report.html")
    return template.render(facts=facts, page=Page(facts), max_open_rows=MAX_OPEN_ROWS)


class Page:
    """What the template shows beside the facts themselves."""

    def __init__(self, facts: ReportFacts) -> None:
        self._facts = facts
        self.headline = remarks.headline(facts.decision)
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

    @cached_property
    def digests(self) -> dict[str, str]:
        """Every digest of the page, by what it is of."""
        champion = self._facts.champion
        named = {"test set": self._facts.dataset.test_digest}
        for step in self._facts.lineage:
            named |= {f"{step.label}: {name}": text for name, text in step.inputs.items()}
            named |= {
                f"{step.label}: code": step.code,
                f"{step.label}: key": step.key,
                f"{step.label}: output": step.output,
            }
        if champion is not None:
            named |= {
                f"version {champion.version}: model": champion.model_digest,
                f"version {champion.version}: score": champion.score_digest,
                f"version {champion.version}: lineage": champion.lineage_digest,
            }
        return {name: text for name, text in named.items() if is_digest(text)}

    @property
    def comparison(self) -> str:
        """How two models compare, in words; empty for another number of them."""
        if len(self.models) != 2:
            return ""
        sizes = {m.facts.name: m.facts.metrics.num_parameters for m in self.models}
        is_right = {m.facts.name: m.answers.is_right for m in self.models}
        return f"{remarks.parameters_remark(sizes)} {remarks.agreement_remark(is_right)}"

    @cached_property
    def shifts(self) -> dict[str, remarks.Shift]:
        """Accuracy by distance, of each model for which it was measured."""
        return {
            model.name: {score.pixels: score.accuracy for score in model.metrics.shift}
            for model in self._facts.models
            if model.metrics.shift
        }

    @property
    def shift_remark(self) -> str:
        """What the shifted images show."""
        return remarks.shift_remark(self.shifts)

    @property
    def widest_shift(self) -> int:
        """The distance in pixels at which the models differ most; 0 without moved images."""
        return remarks.widest_shift(self.shifts)

    def shift_chart(self) -> str:
        """Accuracy against shift, all models in one chart."""
        curves = [
            Curve(model.name, *_columns(self.shifts[model.name]), tone)
            for tone, model in enumerate(self._facts.models)
            if model.name in self.shifts
        ]
        return draw_curves(
            curves,
            title=f"Test accuracy against shift. {self.shift_remark}",
            x_label="shift in pixels",
            y_limits=(0, 1),
            is_share=True,
            legend="lower left",
        )


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
        return remarks.confusion_remark(self._confusion, self._names)

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

    def learning_curve(self, figure: Literal["accuracy", "loss"]) -> str:
        """Train and test figures by epoch, on the same scale for all models; empty without any."""
        epochs = self.facts.history.epochs
        if not epochs:
            return ""
        numbers = [epoch.epoch for epoch in epochs]
        train = [getattr(epoch, figure) for epoch in epochs]
        test = [getattr(epoch, f"val_{figure}") for epoch in epochs]
        is_share = figure == "accuracy"
        curves = [
            Curve("test", numbers, test, self._tone),
            Curve("train", numbers, train, self._tone, is_faint=True),
        ]
        shown = [curve for curve in curves if any(map(math.isfinite, curve.y))]
        ends = ", ".join(f"{c.label} {_figure(c.y[-1], is_share)}" for c in shown)
        return draw_curves(
            shown,
            title=f"{figure.capitalize()} of the {self.facts.name} by epoch; at the end: {ends}",
            x_label="epoch",
            y_limits=self._limits(figure),
            is_share=is_share,
            legend="lower right" if is_share else "upper right",
        )

    def _limits(self, figure: str) -> tuple[float, float]:
        all_figures = [
            getattr(epoch, name)
            for model in self._models
            for epoch in model.history.epochs
            for name in (figure, f"val_{figure}")
        ]
        finite = [number for number in all_figures if math.isfinite(number)]
        if figure == "accuracy":
            return max(math.floor(min(finite, default=0) * 20 - 0.5) / 20, 0), 1
        return 0, max(finite, default=1) * 1.05 or 1


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256."""
    return DIGEST.fullmatch(text) is not None


def share(number: float) -> str:
    """A share as percent."""
    return f"{number:.2%}"


def certainty(probability: float) -> str:
    """A probability as percent that claims no more than it should."""
    return "over 99.99%" if probability > 0.9999 else share(probability)


def duration(seconds: float) -> str:
    """Seconds in words."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def value(setting: Any) -> str:
    """A setting as text."""
    if isinstance(setting, list | tuple):
        return ", ".join(map(str, setting))
    return "-" if setting is None else str(setting)


def _columns(shift: remarks.Shift) -> tuple[list[float], list[float]]:
    return [float(distance) for distance in shift], list(shift.values())


def _figure(number: float, is_share: bool) -> str:
    return share(number) if is_share else f"{number:.3f}"
