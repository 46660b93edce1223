"""From a run's results to its report: reads the bundles and collects the facts it shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from digits.cache.fingerprint import digest_of
from digits.errors import DamagedError
from digits.registry.ledger import ModelVersion, Verdict
from digits.report.page import write_report
from digits.report.view_models import (
    ChampionFacts,
    DatasetFacts,
    Facts,
    History,
    Metrics,
    ModelFacts,
    ReportFacts,
    StepFacts,
    ValidationFacts,
)
from digits.storage.lineage import Lineage
from digits.storage.records import canonical_digest
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef, ValidationRef
from digits.storage.store import Store

PAGE_FILE = "report.html"

F = TypeVar("F", bound=Facts)


def write_run_report(
    output: Path,
    store: Store,
    *,
    title: str,
    validation: ValidationRef,
    arrays: ArraysRef,
    scored: Sequence[tuple[ModelRef, EvaluationRef]],
    verdict: Verdict,
    rival: ModelVersion | None,
    lineage: Lineage,
) -> None:
    """Write report.html of a run into the folder `output`.

    `rival` is the model version that the candidate was compared with. Raises DamagedError if a
    bundle's file is unreadable or does not have the expected content.
    """
    folder = store.folder(arrays)
    x_test, y_test = _load(folder / "x_test.npy"), _load(folder / "y_test.npy")
    class_counts = {
        "train": _class_counts(_load(folder / "y_train.npy"), arrays),
        "test": _class_counts(y_test, arrays),
    }
    facts = ReportFacts(
        dataset=DatasetFacts(
            title=title,
            layout=arrays.layout,
            test_digest=arrays.test_digest,
            class_counts=class_counts,
            batches=_batches(lineage),
        ),
        decision=verdict,
        models=[_model_facts(model, score, store) for model, score in scored],
        validation=ValidationFacts(
            num_expectations=validation.num_expectations,
            warnings=validation.warnings,
            num_shared_images=validation.num_shared_images,
        ),
        lineage=_step_facts(lineage),
        libraries=_libraries(lineage),
        x_test=x_test,
        y_test=y_test,
        champion=_champion_facts(rival, verdict.champion_score),
    )
    write_report(facts, output / PAGE_FILE)


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} cannot be read as an array: {error}") from error
    return array


def _batches(lineage: Lineage) -> tuple[str, ...]:
    ingested = lineage.get("ingest")
    return tuple(ingested.key.inputs.get("batches", {}).values()) if ingested else ()


def _class_counts(labels: npt.NDArray[Any], arrays: ArraysRef) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=arrays.layout.num_classes).tolist())


def _model_facts(model: ModelRef, score: EvaluationRef, store: Store) -> ModelFacts:
    scores = store.folder(score)
    return ModelFacts(
        name=model.model,
        metrics=read_facts(scores / "metrics.json", Metrics),
        history=read_facts(store.folder(model) / "history.json", History),
        settings=model.settings.model_dump(mode="json"),
        seconds=model.seconds,
        device=model.device,
        predictions=scores / "predictions.parquet",
    )


def read_facts(path: Path, kind: type[F]) -> F:
    """Read facts from a JSON file. Raises DamagedError if it is unreadable or lacks any."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} cannot be read as {kind.__name__.lower()}: {error}") from error


def _champion_facts(
    rival: ModelVersion | None, score: EvaluationRef | None
) -> ChampionFacts | None:
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
        model_digest=rival.model.digest,
        score_digest=score.digest,
        lineage_digest=rival.lineage,
    )


def _step_facts(lineage: Lineage) -> list[StepFacts]:
    return [
        StepFacts(
            label=label,
            inputs=_described(step.key.inputs),
            code=digest_of(step.key.code),
            key=step.key.digest,
            output=step.output,
            processor=step.processor,
        )
        for label, step in lineage.items()
    ]


def _described(inputs: Mapping[str, Any]) -> dict[str, str]:
    """A step's inputs by name: strings unchanged, settings as digests.

    A mapping of strings, such as the digests of the source files, is expanded into its entries.
    """
    described: dict[str, str] = {}
    for name, value in inputs.items():
        if isinstance(value, str):
            described[name] = value
        elif isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
            described |= value
        else:
            described[name] = canonical_digest(value)
    return described


def _libraries(lineage: Lineage) -> dict[str, str]:
    """Versions by name; steps agree on them, since the versions are part of their cache keys."""
    versions = {
        name: version for step in lineage.values() for name, version in step.key.libraries.items()
    }
    return dict(sorted(versions.items()))
