"""Made-up runs and decisions for the tests of the dashboard and of events."""

import hashlib
import json
from datetime import UTC, datetime

import numpy as np

from digits.recipes import training_settings
from digits.registry.ledger import Entry, ModelVersion, Verdict
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.storage.store import Store
from digits.training.predictions import write_predictions
from tests.support.small_dataset import NAME, small_layout

NUM_IMAGES = 40
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def digest(text: str) -> str:
    """Return a realistic digest."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_model(name: str, made_by: str = "") -> ModelRef:
    """Make a reference to a model without a bundle."""
    return ModelRef(
        digest=digest(name),
        made_by=made_by,
        model=name,
        num_parameters=1234,
        settings=training_settings("reference", name),
        device="cpu",
        seconds=12.34,
    )


def make_score(name: str, num_correct: int, digest_of: str = "") -> EvaluationRef:
    """Make a reference to the score of such a model, without a bundle."""
    accuracy = num_correct / NUM_IMAGES
    return EvaluationRef(
        digest=digest(digest_of or f"score of {name}"),
        model=name,
        model_digest=digest(name),
        test_digest=digest("test set"),
        num_parameters=1234,
        num_images=NUM_IMAGES,
        num_correct=num_correct,
        accuracy=accuracy,
        interval=(accuracy - 0.1, accuracy),
        loss=0.4321,
    )


def make_version(number: int, name: str = "mlp", num_correct: int = 30) -> ModelVersion:
    """Make a version of such a model that became champion."""
    return ModelVersion(
        number=number,
        model=make_model(name),
        evaluation=make_score(name, num_correct),
        lineage=digest(f"lineage {number}"),
    )


def make_verdict(outcome: str, before: int | None, after: int | None, **facts: object) -> Verdict:
    """Make a verdict about the cnn."""
    fields = {
        "outcome": outcome,
        "reason": f"the cnn was {outcome}",
        "rule": "the rule",
        "candidate": "cnn",
        "candidate_digest": digest("cnn"),
        "candidate_accuracy": 0.9,
        "champion_before": before,
        "champion_after": after,
    }
    return Verdict.model_validate(fields | facts)


def make_entry(verdict: Verdict, version: ModelVersion | None = None, number: int = 1) -> Entry:
    """Make a line of the ledger."""
    return Entry(
        number=number,
        time=WHEN,
        run="a run",
        dataset=NAME,
        data_digest=digest("data"),
        verdict=verdict,
        version=version,
    )


def store_arrays(store: Store) -> ArraysRef:
    """Store test images as normalization does."""
    layout = small_layout()
    rng = np.random.default_rng(0)
    with store.create("arrays") as draft:
        images = rng.random((NUM_IMAGES, *layout.image_shape, 1), np.float32)
        np.save(draft.path / "x_test.npy", images)
    return ArraysRef(
        digest=draft.digest,
        layout=layout,
        num_train=0,
        num_test=NUM_IMAGES,
        test_digest=digest("test set"),
    )


def store_model(store: Store, name: str, num_wrong: int) -> tuple[ModelRef, EvaluationRef]:
    """Store a learning curve and predictions, without a model; the first images are mislabeled."""
    layout = small_layout()
    epochs = [
        {"epoch": n, "loss": 1 / n, "accuracy": 1 - 1 / n, "val_loss": 1 / n, "val_accuracy": 0.9}
        for n in (1, 2, 3)
    ]
    with store.create("models") as model:
        (model.path / "history.json").write_text(json.dumps({"epochs": epochs}))
    true = np.arange(NUM_IMAGES) % layout.num_classes
    predicted = np.where(np.arange(NUM_IMAGES) < num_wrong, (true + 1) % layout.num_classes, true)
    confusion = np.zeros((layout.num_classes, layout.num_classes), int)
    np.add.at(confusion, (true, predicted), 1)
    metrics = {
        "num_parameters": 1234,
        "num_images": NUM_IMAGES,
        "num_correct": NUM_IMAGES - num_wrong,
        "accuracy": 1 - num_wrong / NUM_IMAGES,
        "interval": [0.8, 1.0],
        "loss": 0.4321,
        "classes": [],
        "confusion": confusion.tolist(),
    }
    with store.create("evaluations") as score:
        (score.path / "metrics.json").write_text(json.dumps(metrics))
        uniform = np.full((NUM_IMAGES, layout.num_classes), 1 / layout.num_classes)
        write_predictions(score.path / "predictions.parquet", true, predicted, uniform)
    return (
        make_model(name).model_copy(update={"digest": model.digest}),
        make_score(name, NUM_IMAGES - num_wrong).model_copy(update={"digest": score.digest}),
    )
