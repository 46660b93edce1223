"""A made-up sweep: combinations, and models and scores with learning curves in a store."""

import json
from collections.abc import Sequence
from pathlib import Path

from digits.models import TrainingSettings
from digits.report.sweep_page import write_sweep_page
from digits.storage.store import Store
from digits.sweeps.statistics import Scored
from digits.sweeps.variants import Base, Combination
from tests.support.histories import NUM_IMAGES, make_model, make_score

BASE = Base(
    dataset="handwriting",
    model="cnn",
    recipe="best",
    settings=TrainingSettings(optimizer="adam", learning_rate=0.001, dropout=(0.2, 0.2)),
)


def combination(rate: float, seed: int, dataset: str = "handwriting") -> Combination:
    """Make a combination whose learning rate was chosen."""
    base = BASE.model_copy(update={"dataset": dataset})
    return Combination(variant=base.changed({"learning_rate": rate}), seed=seed)


def scored(text: str, num_correct: int, loss: float = 0.5) -> Scored:
    """Make references to a model and its score, without bundles."""
    model = make_model(text)
    return model, make_score(model, num_correct, loss=loss)


def store_scored(store: Store, text: str, curve: Sequence[float]) -> Scored:
    """Store the learning curve of a model; the last value is its score."""
    epochs = [
        {"epoch": epoch, "loss": 0.1, "accuracy": 0.9, "val_loss": 0.2, "val_accuracy": accuracy}
        for epoch, accuracy in enumerate(curve, start=1)
    ]
    with store.create("models") as draft:
        (draft.path / "model.keras").write_text(text)
        (draft.path / "history.json").write_text(json.dumps({"epochs": epochs}))
    model = make_model(text).model_copy(update={"digest": draft.digest})
    return model, make_score(model, round(curve[-1] * NUM_IMAGES))


def write_sweep(folder: Path, store: Store, name: str = "handwriting") -> str:
    """Write the page of a sweep of eight variants, two seeds each, and return it."""
    combinations = [
        combination(rate / 1000, seed, name) for rate in range(1, 9) for seed in range(2)
    ]
    pairs = [
        store_scored(store, one.label, [0.5, 0.7, 0.9 + number / 200])
        for number, one in enumerate(combinations)
    ]
    write_sweep_page(
        folder,
        store,
        title=name,
        combinations=combinations,
        scored=pairs,
        failures=[(f"{name} mlp best seed 1", "the disk is full")],
        is_held_out=False,
    )
    return (folder / "report.html").read_text(encoding="utf-8")
