"""A run's charts for the dashboard, as PNG data URIs: it does not show inline SVG."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from digits.report.svg import heat
from digits.report.view_models import MAX_COUNTED_CLASSES, History, Metrics
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.storage.store import Store
from digits.training.predictions import read_predictions

Scored = Sequence[tuple[ModelRef, EvaluationRef]]
# The grid of predictions: numbers of images, and sizes in inches.
NUM_COLUMNS, NUM_ROWS = 10, 3
CELL_WIDTH, CELL_HEIGHT, TITLE_HEIGHT, CAPTION_HEIGHT, IMAGE_SIZE = 0.9, 1.05, 0.3, 0.2, 0.82
CENTERED: Any = {"ha": "center", "va": "center", "parse_math": False}
# Colors in the grid of predictions.
RIGHT, WRONG = "#1c5cbe", "#c13128"


def draw_pictures(scored: Scored, arrays: ArraysRef, store: Store) -> Mapping[str, str]:
    """Draw the models' learning curves, confusion matrices and first predictions, by title."""
    names = arrays.layout.class_names
    return {
        "Learning curves": _uri(_learning_curves(scored, store)),
        "Confusion": _uri(_confusion(scored, names, store)),
        "The first test images": _uri(_predictions(scored, names, store.folder(arrays), store)),
    }


def _learning_curves(scored: Scored, store: Store) -> Figure:
    figure, axes = _figure(2, height=3.2)
    for number, (model, _) in enumerate(scored):
        path = store.folder(model) / "history.json"
        epochs = History.model_validate_json(path.read_bytes()).epochs
        for axis, name in zip(axes, ("accuracy", "loss"), strict=True):
            for prefix, style in (("val_", "-"), ("", ":")):
                axis.plot(
                    [epoch.epoch for epoch in epochs],
                    [getattr(epoch, f"{prefix}{name}") for epoch in epochs],
                    style,
                    marker="." if prefix else None,
                    color=f"C{number}",
                    label=f"{model.model}, {'test' if prefix else 'training'}",
                )
    for axis, name in zip(axes, ("accuracy", "loss"), strict=True):
        axis.set(title=name, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].legend()
    return figure


def _confusion(scored: Scored, names: Sequence[str], store: Store) -> Figure:
    figure, axes = _figure(len(scored), height=4.6)
    for axis, (model, score) in zip(axes, scored, strict=True):
        path = store.folder(score) / "metrics.json"
        counts = np.array(Metrics.model_validate_json(path.read_bytes()).confusion)
        shares = heat(counts)
        axis.imshow(
            np.where(np.eye(len(counts), dtype=bool), shares, -shares), "RdBu", vmin=-1, vmax=1
        )
        axis.set(title=model.model, xlabel="predicted", ylabel="true")
        if len(names) <= MAX_COUNTED_CLASSES:
            axis.set_xticks(range(len(names)), names, parse_math=False)
            axis.set_yticks(range(len(names)), names, parse_math=False)
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axis.text(column, row, count, color=color, ha="center", va="center", fontsize=7)
    return figure


def _predictions(scored: Scored, names: Sequence[str], arrays: Path, store: Store) -> Figure:
    images = np.load(arrays / "x_test.npy", mmap_mode="r", allow_pickle=False)
    images = images[: NUM_COLUMNS * NUM_ROWS].squeeze(-1)
    block = TITLE_HEIGHT + NUM_ROWS * CELL_HEIGHT
    size = (NUM_COLUMNS * CELL_WIDTH, block * len(scored))
    figure = Figure(figsize=size)
    # A single Axes for everything, in inches: one per image took ten times as long.
    axes = figure.add_axes((0, 0, 1, 1))
    for top, (model, score) in zip(np.arange(len(scored)) * block, scored, strict=True):
        title = f"{model.model}: predictions, with the true class in parentheses where wrong"
        axes.text(size[0] / 2, top + TITLE_HEIGHT / 2, title, fontsize=12, **CENTERED)
        true, predicted = read_predictions(store.folder(score) / "predictions.parquet")
        for number, image in enumerate(images):
            row, column = divmod(number, NUM_COLUMNS)
            x, y = (column + 0.5) * CELL_WIDTH, top + TITLE_HEIGHT + row * CELL_HEIGHT
            is_, read = names[true[number]], names[predicted[number]]
            axes.text(
                x,
                y + CAPTION_HEIGHT / 2,
                read if is_ == read else f"{read} ({is_})",
                color=RIGHT if is_ == read else WRONG,
                fontsize=9,
                **CENTERED,
            )
            height, width = np.array(image.shape) / max(image.shape) * IMAGE_SIZE
            middle = y + CAPTION_HEIGHT + IMAGE_SIZE / 2
            extent = (x - width / 2, x + width / 2, middle + height / 2, middle - height / 2)
            axes.imshow(image, "gray_r", vmin=0, vmax=1, aspect="auto", extent=extent)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    return figure


def _figure(columns: int, height: float) -> tuple[Figure, npt.NDArray[Any]]:
    figure = Figure(figsize=(9, height), layout="compressed")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _uri(figure: Figure) -> str:
    # White background, because the dashboard has a dark and a light theme.
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
