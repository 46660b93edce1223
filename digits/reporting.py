"""From a run's results to its page: reads the bundles and gathers what the page shows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digits.errors import DamagedError
from digits.facts import (
    ChampionFacts,
    DatasetFacts,
    History,
    Metrics,
    ModelFacts,
    ReportFacts,
    ValidationFacts,
)
from digits.fingerprint import digest_of
from digits.ledger import Judgement, Version
from digits.lineage import Lineage
from digits.references import ArraysRef, EvaluationRef, ModelRef, ValidationRef
from digits.report import write_report
from digits.store import Store

PAGE_FILE = "report.html"


def write_run_report(
    output: Path,
    store: Store,
    *,
    title: str,
    validation: ValidationRef,
    arrays: ArraysRef,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    judgement: Judgement,
    rival: Version | None,
    lineage: Lineage,
) -> None:
    """Write report.html of a run into the folder `output`.

    `rival` is the version that `judgement` compared with. Raises DamagedError when a bundle's file
    is not what its step writes.
    """
    folder = store.folder(arrays)
    y_train, y_test, x_test = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("y_train", "y_test", "x_test")
    )
    num_classes = arrays.layout.num_classes
    counts = {
        split: tuple(np.bincount(labels, minlength=num_classes).tolist())
        for split, labels in (("train", y_train), ("test", y_test))
    }
    facts = ReportFacts(
        dataset=DatasetFacts(title=title, layout=arrays.layout, class_counts=counts),
        decision=judgement,
        models=[_model_facts(model, score, store) for model, score in scored],
        validation=ValidationFacts(
            num_expectations=validation.num_expectations, warnings=validation.warnings
        ),
        lineage=_lineage_facts(lineage, [model for model, _ in scored]),
        x_test=x_test,
        y_test=y_test,
        champion=_champion_facts(rival, judgement.champion_score),
    )
    write_report(facts, output / PAGE_FILE)


def _model_facts(model: ModelRef, score: EvaluationRef, store: Store) -> ModelFacts:
    scores = store.folder(score)
    return ModelFacts(
        name=model.model,
        metrics=Metrics.model_validate(_read(scores / "metrics.json")),
        history=History.model_validate(_read(store.folder(model) / "history.json")),
        settings=model.settings.model_dump(mode="json"),
        seconds=model.seconds,
        device=model.device,
        predictions=scores / "predictions.parquet",
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error


def _champion_facts(rival: Version | None, score: EvaluationRef | None) -> ChampionFacts | None:
    if rival is None or score is None:
        return None
    return ChampionFacts(
        version=rival.number,
        model=score.model,
        num_parameters=score.num_parameters,
        accuracy=score.accuracy,
        interval=score.interval,
        loss=score.loss,
        seconds=rival.model.seconds,
        device=rival.model.device,
    )


def _lineage_facts(lineage: Lineage, models: Sequence[ModelRef]) -> Mapping[str, Mapping[str, str]]:
    libraries = {
        name: version for step in lineage.values() for name, version in step.key.libraries.items()
    }
    return {
        "content": {f"{label}: output": step.output for label, step in lineage.items()},
        "code": {label: digest_of(step.key.code) for label, step in lineage.items()},
        "libraries": dict(sorted(libraries.items())),
        "device": {f"train {model.model}": model.device for model in models},
    }
