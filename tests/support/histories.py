"""Made-up models, scores and decisions about them, in the real format."""

import hashlib
from pathlib import Path

from digits.models import TrainingSettings
from digits.registry.ledger import Deciding, Entry, Ledger, ModelVersion, Verdict
from digits.settings import Settings
from digits.storage.references import DatasetRef, EvaluationRef, ModelRef, OnnxRef
from digits.storage.workspace import Workspace
from tests.support.small_dataset import NAME, small_layout

NUM_IMAGES = 100
TEST_SET = "the test set"


def digest(text: str) -> str:
    """Return a realistic digest."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_model(text: str = "weights", model: str = "cnn", num_parameters: int = 10) -> ModelRef:
    """Make a reference to a model without a bundle."""
    return ModelRef(
        digest=digest(f"model {text}"),
        made_by=digest(f"train {text}"),
        model=model,
        num_parameters=num_parameters,
        settings=TrainingSettings(optimizer="adam", learning_rate=0.001, dropout=(0.5,)),
        device="cpu",
        seconds=1.5,
    )


def make_score(
    model: ModelRef, num_correct: int, *, loss: float = 0.5, test_set: str = TEST_SET
) -> EvaluationRef:
    """Make a reference to a score without a bundle."""
    return EvaluationRef(
        digest=digest(f"score {model.digest} {test_set}"),
        made_by=digest(f"evaluate {model.digest} {test_set}"),
        model=model.model,
        model_digest=model.digest,
        test_digest=digest(test_set),
        num_parameters=model.num_parameters,
        num_images=NUM_IMAGES,
        num_correct=num_correct,
        accuracy=num_correct / NUM_IMAGES,
        interval=(0.1, 0.9),
        loss=loss,
    )


def make_dataset(test_set: str = TEST_SET) -> DatasetRef:
    """Make a reference to a dataset without a bundle."""
    return DatasetRef(
        digest=digest("parquet"),
        layout=small_layout(),
        num_train=600,
        num_test=NUM_IMAGES,
        content_digest=digest(f"content with {test_set}"),
        test_digest=digest(test_set),
    )


def store_model(workspace: Workspace, text: str, model: str = "cnn") -> ModelRef:
    """Store a model's bundle and return its reference."""
    with workspace.store.create("models") as draft:
        (draft.path / "model.keras").write_text(text)
    return make_model(text, model).model_copy(update={"digest": draft.digest})


def store_score(
    workspace: Workspace,
    model: ModelRef,
    wrong: range,
    *,
    loss: float = 0.5,
    test_set: str = TEST_SET,
) -> EvaluationRef:
    """Store a score's bundle: the model mislabels the images `wrong` only."""
    import numpy as np

    from digits.training.predictions import write_predictions

    y_true = (np.arange(NUM_IMAGES) % 10).astype(np.int32)
    y_predicted = y_true.copy()
    y_predicted[list(wrong)] = (y_true[list(wrong)] + 1) % 10
    with workspace.store.create("evaluations") as draft:
        path = draft.path / "predictions.parquet"
        write_predictions(path, y_true, y_predicted, np.full((NUM_IMAGES, 10), 0.1))
        # Otherwise two models with the same answers would share a bundle.
        (draft.path / "metrics.json").write_text(model.digest)
    score = make_score(model, NUM_IMAGES - len(wrong), loss=loss, test_set=test_set)
    return score.model_copy(update={"digest": draft.digest})


def store_form(workspace: Workspace, model: ModelRef) -> OnnxRef:
    """Store a made-up ONNX form of a model and return its reference."""
    with workspace.store.create("onnx") as draft:
        (draft.path / "model.onnx").write_text(model.digest)
    return OnnxRef(
        digest=draft.digest,
        made_by=digest(f"convert {model.digest}"),
        model=model.model,
        model_digest=model.digest,
        num_images=NUM_IMAGES,
        num_correct=NUM_IMAGES - 1,
    )


def promotion(
    number: int, model: ModelRef, score: EvaluationRef, before: int | None
) -> tuple[Verdict, ModelVersion]:
    """Make the verdict by which a model becomes version `number`, and that version."""
    verdict = Verdict(
        outcome="promoted",
        reason="it was better",
        rule="the better one",
        candidate=model.model,
        candidate_digest=model.digest,
        candidate_accuracy=score.accuracy,
        champion_before=before,
        champion_after=number,
    )
    lineage = digest(f"lineage {number}")
    return verdict, ModelVersion(number=number, model=model, evaluation=score, lineage=lineage)


def promote_next(deciding: Deciding, text: str) -> Entry:
    """Promote a new model, whatever it replaces."""
    champion, model = deciding.champion, make_model(text)
    number = 1 + sum(entry.version is not None for entry in deciding.entries)
    before = champion.number if champion else None
    verdict, version = promotion(number, model, make_score(model, 90), before)
    return deciding.append(verdict, run=f"run {text}", data_digest=digest("d"), version=version)


def keep(deciding: Deciding) -> Entry:
    """Append a decision that keeps the champion."""
    number = deciding.champion.number if deciding.champion else None
    verdict = Verdict(
        outcome="kept",
        reason="it was no better: \u2264",
        rule="the better one",
        candidate="mlp",
        candidate_digest=digest("another"),
        candidate_accuracy=0.1 + 0.2,
        champion_before=number,
        champion_after=number,
        discordant=(3, 1),
        p_value=1e-05,
    )
    return deciding.append(verdict, run="run", data_digest=digest("d"))


def put_back(deciding: Deciding, number: int) -> Entry:
    """Append a rollback to a version."""
    before = deciding.champion
    version = next(e.version for e in deciding.entries if e.version and e.version.number == number)
    verdict = Verdict(
        outcome="rolled back",
        reason="by hand",
        rule="by hand",
        candidate=version.model.model,
        candidate_digest=version.model.digest,
        candidate_accuracy=version.evaluation.accuracy,
        champion_before=before.number if before else None,
        champion_after=number,
    )
    return deciding.append(verdict, run="by hand", data_digest=digest("d"))


def write_history(ledger: Ledger, steps: str) -> list[Entry]:
    """Append decisions, a character each: p(romoted), k(ept), or a version to roll back to."""
    for step in steps:
        with ledger.deciding() as deciding:
            if step == "p":
                promote_next(deciding, f"version {len(deciding.entries)}")
            elif step == "k":
                keep(deciding)
            else:
                put_back(deciding, int(step))
    return ledger.entries()


def make_ledger(folder: Path, name: str = NAME) -> Ledger:
    """Make a ledger in a folder of its own."""
    return Ledger(name, Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts"))


def forget_forms(workspace: Workspace) -> None:
    """Write the ledger again as an earlier release did, which recorded no forms."""
    ledger = Ledger(NAME, workspace.settings)
    entries = ledger.entries()
    for path in (ledger.path, ledger.path.with_suffix(".head")):
        path.unlink()
    with ledger.deciding() as deciding:
        for entry in entries:
            deciding.append(
                entry.verdict, run=entry.run, data_digest=entry.data_digest, version=entry.version
            )
