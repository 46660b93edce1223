"""The page of a sweep: variants by their means over seeds, learning curves, every training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.escaping import page_environment
from digits.report import sentences
from digits.report.run_report import PAGE_FILE, read_facts
from digits.report.svg import NUM_TONES, Curve, draw_curves
from digits.report.view_models import History
from digits.storage.references import ModelRef
from digits.storage.store import Store
from digits.sweeps.statistics import Scored, Summary, summarize
from digits.sweeps.variants import Combination

NUM_CURVES = 6
"""More curves in a chart could not be told apart; these are the best variants'."""

CurvesByName = Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Row:
    """A variant in the table of its dataset: its rank from 1, and the color of its curve."""

    rank: int
    summary: Summary
    tone: int | None


@dataclass(frozen=True)
class Section:
    """What the page shows of one dataset: its variants, best first, and their chart."""

    dataset: str
    rows: Sequence[Row]
    chart: str


def write_sweep_page(
    output: Path,
    store: Store,
    *,
    title: str,
    combinations: Sequence[Combination],
    scored: Sequence[Scored],
    failures: Sequence[tuple[str, str]],
    is_held_out: bool,
) -> None:
    """Write report.html of a sweep into the folder `output`; equal facts give equal bytes.

    `scored` are the models and scores of `combinations`, `failures` labels and reasons. Raises
    DamagedError if a learning curve is unreadable.
    """
    summaries = summarize(combinations, scored)
    curves: dict[str, list[list[float]]] = {}
    for combination, (model, _) in zip(combinations, scored, strict=True):
        curves.setdefault(combination.variant.name, []).append(_curve(model, store))
    datasets = dict.fromkeys(summary.variant.dataset for summary in summaries)
    sections = [
        _section(dataset, [s for s in summaries if s.variant.dataset == dataset], curves)
        for dataset in datasets
    ]
    environment = page_environment()
    environment.filters |= {
        "duration": sentences.duration,
        "share": sentences.share,
        "value": sentences.value,
    }
    page = environment.get_template("sweep.html").render(
        title=title,
        sections=sections,
        trainings=list(zip(combinations, scored, strict=True)),
        failures=failures,
        is_held_out=is_held_out,
        num_curves=NUM_CURVES,
    )
    (output / PAGE_FILE).write_text(page, encoding="utf-8")


def _section(dataset: str, summaries: Sequence[Summary], curves: CurvesByName) -> Section:
    ranked = sorted(summaries, key=lambda summary: (-summary.mean, summary.loss))
    rows = [
        Row(rank, summary, (rank - 1) % NUM_TONES if rank <= NUM_CURVES else None)
        for rank, summary in enumerate(ranked, start=1)
    ]
    drawn = [
        Curve(
            f"{row.rank} {row.summary.variant.model}",
            *_mean_curve(curves[row.summary.variant.name]),
            tone=row.rank - 1,
        )
        for row in rows[:NUM_CURVES]
    ]
    return Section(dataset, rows, _chart(dataset, drawn))


def _chart(dataset: str, curves: Sequence[Curve]) -> str:
    finite = [y for curve in curves for y in curve.y if math.isfinite(y)]
    if not finite:
        return ""
    ends = ", ".join(f"{curve.label} {sentences.share(curve.y[-1])}" for curve in curves)
    return draw_curves(
        curves,
        title=f"Accuracy on {dataset} by epoch, means over seeds; final values: {ends}",
        x_label="epoch",
        y_limits=(max(math.floor(min(finite) * 20 - 0.5) / 20, 0), 1),
        is_share=True,
        legend="lower right",
    )


def _mean_curve(curves: Sequence[Sequence[float]]) -> tuple[list[int], list[float]]:
    """Return the epochs and the mean accuracies; all seeds of a variant have equally many."""
    means = [math.fsum(values) / len(values) for values in zip(*curves, strict=True)]
    return list(range(1, len(means) + 1)), means


def _curve(model: ModelRef, store: Store) -> list[float]:
    history = read_facts(store.folder(model) / "history.json", History)
    return [epoch.val_accuracy for epoch in history.epochs]
