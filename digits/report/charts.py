"""The report's charts: the curves and the scale of each."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from digits.report.sentences import Shift, share
from digits.report.svg import Curve, draw_curves
from digits.report.view_models import ModelFacts

Figure = Literal["accuracy", "loss"]


def learning_chart(
    model: ModelFacts, figure: Figure, *, tone: int, models: Sequence[ModelFacts]
) -> str:
    """Draw a model's train and test values by epoch as <svg>; empty if none were recorded.

    The scale covers all `models`, so their charts are comparable.
    """
    epochs = model.history.epochs
    numbers = [epoch.epoch for epoch in epochs]
    test = Curve("test", numbers, [getattr(epoch, f"val_{figure}") for epoch in epochs], tone)
    train = Curve("train", numbers, [getattr(epoch, figure) for epoch in epochs], tone, True)
    curves = [curve for curve in (test, train) if any(map(math.isfinite, curve.y))]
    if not curves:
        return ""
    is_share = figure == "accuracy"
    ends = ", ".join(f"{curve.label} {_figure(curve.y[-1], is_share)}" for curve in curves)
    return draw_curves(
        curves,
        title=f"{figure.capitalize()} of the {model.name} by epoch; final values: {ends}",
        x_label="epoch",
        y_limits=_limits(figure, models),
        is_share=is_share,
        legend="lower right" if is_share else "upper right",
    )


def shift_chart(shifts: Mapping[str, Shift], tones: Mapping[str, int], *, remark: str) -> str:
    """Draw accuracy by shift, one curve per model, as <svg>; `remark` ends the text alternative."""
    return draw_curves(
        [
            Curve(name, list(shift), list(shift.values()), tones[name])
            for name, shift in shifts.items()
        ],
        title=f"Test accuracy by shift. {remark}",
        x_label="shift in pixels",
        y_limits=(0, 1),
        is_share=True,
        legend="lower left",
    )


def _limits(figure: Figure, models: Sequence[ModelFacts]) -> tuple[float, float]:
    """From just below the lowest accuracy to 1, or from 0 to just above the highest loss."""
    figures = [
        getattr(epoch, name)
        for model in models
        for epoch in model.history.epochs
        for name in (figure, f"val_{figure}")
    ]
    finite = [number for number in figures if math.isfinite(number)]
    if figure == "accuracy":
        return max(math.floor(min(finite) * 20 - 0.5) / 20, 0), 1
    return 0, max(finite) * 1.05 or 1


def _figure(number: float, is_share: bool) -> str:
    return share(number) if is_share else f"{number:.3f}"
