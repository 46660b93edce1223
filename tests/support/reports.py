"""Facts of made-up runs for the tests of the report."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.registry.ledger import Verdict
from digits.report.view_models import (
    ChampionFacts,
    DatasetFacts,
    ModelFacts,
    ReportFacts,
    StepFacts,
    ValidationFacts,
)
from digits.spec import Layout
from digits.training.predictions import write_predictions

NUM_IMAGES = 60
ACCURACIES = {"mlp": 0.85, "cnn": 0.95}
SHIFTS = {"mlp": {0: 0.85, 1: 0.5, 2: 0.2}, "cnn": {0: 0.95, 1: 0.9, 2: 0.6}}
LIBRARIES = {"keras": "3.15.1", "numpy": "2.4.6"}
Array = npt.NDArray[Any]


def digest(text: str) -> str:
    """Return a realistic digest."""
    return hashlib.sha256(text.encode()).hexdigest()


CHAMPION = ChampionFacts(
    version=3,
    model="mlp",
    num_parameters=4321,
    accuracy=0.9,
    interval=(0.8, 0.95),
    loss=0.4,
    seconds=75,
    device="cpu",
    model_digest=digest("champion"),
    score_digest=digest("score of the champion"),
    lineage_digest=digest("lineage of the champion"),
)


def make_layout(num_classes: int = 10, shape: tuple[int, int] = (12, 9)) -> Layout:
    """Make a layout in which no class is named by its number."""
    names = tuple(f"class {label:c}" for label in range(65, 65 + num_classes))
    return Layout(name="made-up", image_shape=shape, num_classes=num_classes, class_names=names)


def make_test_images(layout: Layout, num_images: int = NUM_IMAGES) -> tuple[Array, Array]:
    """Make images uint8 (N, H, W) and their classes int32 (N,)."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (num_images, *layout.image_shape)).astype(np.uint8)
    return images, (np.arange(num_images) % layout.num_classes).astype(np.int32)


def make_model(
    folder: Path,
    name: str,
    layout: Layout,
    y_test: Array,
    *,
    accuracy: float = 0.9,
    probability: Array | None = None,
    shift: Mapping[int, float] | None = None,
    num_epochs: int = 3,
    has_test_curve: bool = True,
) -> ModelFacts:
    """Make a model that mislabels the first images, each as the next class."""
    num_wrong = round(len(y_test) * (1 - accuracy))
    is_wrong = np.arange(len(y_test)) < num_wrong
    predicted = np.where(is_wrong, (y_test + 1) % layout.num_classes, y_test)
    confusion = np.zeros((layout.num_classes, layout.num_classes), int)
    np.add.at(confusion, (y_test, predicted), 1)
    path = folder / f"{digest(name)}.parquet"
    write_predictions(path, y_test, predicted, _spread(predicted, layout, probability))
    metrics = {
        "model": name,
        "num_parameters": 1000 * (len(name) + 1),
        "num_images": len(y_test),
        "num_correct": len(y_test) - num_wrong,
        "accuracy": (len(y_test) - num_wrong) / len(y_test),
        "interval": [accuracy - 0.05, min(accuracy + 0.03, 1)],
        "loss": 0.321,
        "classes": [
            {"label": label, "name": class_name, "precision": 0.9, "recall": 0.8, "support": 6}
            for label, class_name in enumerate(layout.class_names)
        ],
        "confusion": confusion.tolist(),
        "shift": [{"pixels": p, "accuracy": a} for p, a in (shift or {}).items()],
    }
    return ModelFacts(
        name=name,
        metrics=metrics,
        history={"epochs": [_epoch(n, has_test_curve) for n in range(1, num_epochs + 1)]},
        settings={"recipe": "reference", "optimizer": "adam", "dropout": [0.2, 0.5], "seed": 7},
        seconds=75.4,
        device="gpu:Made-up 100",
        predictions=path,
    )


def make_verdict(outcome: str = "promoted", **changes: Any) -> Verdict:
    """Make a decision; without changes, the cnn replaces version 3."""
    fields = {
        "outcome": outcome,
        "reason": "the cnn reached 95.00%, the champion (mlp, version 3) 90.00%",
        "rule": "higher test accuracy than the champion",
        "candidate": "cnn",
        "candidate_digest": digest("cnn"),
        "candidate_accuracy": 0.95,
        "champion_accuracy": 0.9,
        "champion_before": 3,
        "champion_after": 4 if outcome == "promoted" else 3,
        "discordant": (11, 29),
        "p_value": 0.00643,
    }
    return Verdict.model_validate(fields | changes)


def make_facts(
    folder: Path,
    *,
    layout: Layout | None = None,
    models: Sequence[ModelFacts] | None = None,
    decision: Verdict | None = None,
    champion: ChampionFacts | None = CHAMPION,
    warnings: tuple[str, ...] = (),
    lineage: Sequence[StepFacts] | None = None,
    title: str = "Made-up digits",
) -> ReportFacts:
    """Make the facts of a run; by default with an mlp and a cnn on small images."""
    layout = layout or make_layout()
    x_test, y_test = make_test_images(layout)
    if models is None:
        models = [
            make_model(folder, name, layout, y_test, accuracy=accuracy, shift=SHIFTS[name])
            for name, accuracy in ACCURACIES.items()
        ]
    counts = tuple(np.bincount(y_test, minlength=layout.num_classes).tolist())
    return ReportFacts(
        dataset=DatasetFacts(
            title=title,
            layout=layout,
            test_digest=digest("test set"),
            class_counts={"train": tuple(10 * count for count in counts), "test": counts},
        ),
        decision=decision or make_verdict(),
        models=models,
        validation=ValidationFacts(num_expectations=51, warnings=warnings),
        lineage=make_lineage() if lineage is None else lineage,
        libraries=LIBRARIES,
        x_test=x_test,
        y_test=y_test,
        champion=champion,
    )


def make_lineage() -> list[StepFacts]:
    """Make two steps; the output of the first is an input of the second."""
    return [
        make_step("normalize", {"dataset": digest("dataset")}),
        make_step("train cnn", {"arrays": digest("normalize: output"), "device": "cpu"}),
    ]


def make_step(label: str, inputs: Mapping[str, str]) -> StepFacts:
    """Make a step whose digests are the digests of their names."""
    parts = {part: digest(f"{label}: {part}") for part in ("code", "key", "output")}
    return StepFacts(label=label, inputs=inputs, processor="A CPU, 2 cores", **parts)


def _spread(predicted: Array, layout: Layout, probability: Array | None) -> Array:
    """Return probabilities (N, K): `probability` for the predicted class, the rest evenly."""
    sure = np.full(len(predicted), 0.8) if probability is None else probability
    others = (1 - sure) / (layout.num_classes - 1)
    probabilities = np.repeat(others[:, np.newaxis], layout.num_classes, axis=1)
    probabilities[np.arange(len(predicted)), predicted] = sure
    return probabilities


def _epoch(number: int, has_test: bool) -> dict[str, float]:
    figures = {"epoch": number, "loss": 1 / number, "accuracy": 1 - 0.3 / number}
    if has_test:
        figures |= {"val_loss": 0.8 / number, "val_accuracy": 1 - 0.2 / number}
    return figures
