from pathlib import Path
from typing import Any

import pytest

from digits.report.charts import Figure, learning_chart, shift_chart
from digits.report.view_models import ModelFacts
from tests.support.markup import Element, parse_page
from tests.support.reports import make_layout, make_model, make_test_images

NAN = float("nan")


def trained(folder: Path, name: str, **figures: list[float]) -> ModelFacts:
    """A model that recorded these values, one per epoch."""
    layout = make_layout()
    _, y_test = make_test_images(layout)
    rows = [dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)]
    epochs: list[dict[str, Any]] = [{"epoch": n, **row} for n, row in enumerate(rows, start=1)]
    history = {"history": {"epochs": epochs}}
    model = make_model(folder, name, layout, y_test)
    return ModelFacts.model_validate(model.model_dump() | history)


def draw(model: ModelFacts, figure: Figure, *others: ModelFacts) -> Element:
    return parse_page(learning_chart(model, figure, tone=0, models=[model, *others])).one("svg")


def scale(chart: Element) -> list[tuple[str, str]]:
    """The labels of the y axis and their positions."""
    texts = [text for text in chart.all("text") if "text-anchor: end" in text["style"]]
    return [(text.text, text["y"]) for text in texts]


@pytest.mark.parametrize("figure", ["accuracy", "loss"])
def test_charts_of_two_models_share_a_scale(tmp_path: Path, figure: Figure) -> None:
    good = trained(tmp_path, "good", accuracy=[0.9], loss=[0.1])
    poor = trained(tmp_path, "poor", accuracy=[0.3], loss=[3.0])

    together = scale(draw(good, figure, poor))

    assert together == scale(draw(poor, figure, good)) == scale(draw(poor, figure))
    assert together != scale(draw(good, figure))


def test_loss_starts_at_zero_and_accuracy_ends_at_one(tmp_path: Path) -> None:
    model = trained(tmp_path, "cnn", accuracy=[0.97, 0.99], loss=[0.4, 0.2])

    assert scale(draw(model, "loss"))[0][0] == "0.0"
    labels = [label for label, _ in scale(draw(model, "accuracy"))]
    assert (labels[0], labels[-1]) == ("90%", "100%")


@pytest.mark.parametrize(
    ("figures", "ends"),
    [
        ({"loss": [0.5, NAN], "val_loss": [0.4, 0.3]}, "test 0.300, train nan"),
        ({"loss": [0.5, 0.4], "val_loss": [NAN, NAN]}, "train 0.400"),
        ({"loss": [0.5, 0.4]}, "train 0.400"),
        ({"loss": [float("inf"), 0.4], "val_loss": [1, 1]}, "test 1.000, train 0.400"),
    ],
)
def test_values_that_are_not_finite_leave_gaps(
    tmp_path: Path, figures: dict[str, list[float]], ends: str
) -> None:
    chart = draw(trained(tmp_path, "cnn", accuracy=[0.5, 0.6], **figures), "loss")

    assert chart["aria-label"] == f"Loss of the cnn by epoch; final values: {ends}"


def test_training_that_recorded_nothing_has_no_chart(tmp_path: Path) -> None:
    diverged = trained(tmp_path, "cnn", accuracy=[0.1], loss=[NAN])
    unrecorded = trained(tmp_path, "mlp", accuracy=[], loss=[])

    assert learning_chart(diverged, "loss", tone=0, models=[diverged]) == ""
    assert learning_chart(unrecorded, "accuracy", tone=0, models=[unrecorded]) == ""


def test_every_model_keeps_its_color_in_the_shift_chart() -> None:
    chart = parse_page(shift_chart({"cnn": {0: 0.9, 1: 0.5}}, {"mlp": 0, "cnn": 1}, remark="Why."))

    assert {mark["style"].split(";")[0] for mark in chart.all("use")} == {"fill: var(--series-1)"}
    assert chart.one("svg")["aria-label"] == "Test accuracy by shift. Why."
