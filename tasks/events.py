"""Events that others react to: promotion decisions, failed validations, added batches."""

from typing import Any

from prefect.events import emit_event

from digits.intake.incoming import Addition
from digits.registry.ledger import Entry
from digits.validation.findings import ValidationOutcome

DECISIONS = {
    "promoted": "champion.promoted",
    "kept": "champion.kept",
    "unchanged": "champion.unchanged",
    "rolled back": "champion.rolled-back",
}
VALIDATION_FAILED = "validation.failed"
ADDITIONS = {"accepted": "batch.accepted", "quarantined": "batch.quarantined"}


def emit_decision(entry: Entry) -> None:
    """Emit a promotion decision, with the verdict from the ledger."""
    verdict = entry.verdict
    _emit(
        DECISIONS[verdict.outcome],
        entry.dataset,
        text=f"{entry.dataset}: {verdict.outcome}: {verdict.reason}",
        run=entry.run,
        data_digest=entry.data_digest,
        **verdict.model_dump(mode="json"),
    )


def emit_validation_failed(dataset: str, outcome: ValidationOutcome) -> None:
    """Emit the failed expectations of a dataset."""
    failures = [str(failure) for failure in outcome.failures]
    _emit(
        VALIDATION_FAILED,
        dataset,
        text=f"{dataset}: data validation failed: {'; '.join(failures)}",
        failures=failures,
        num_expectations=outcome.num_expectations,
    )


def emit_addition(addition: Addition) -> None:
    """Emit the outcome of a new batch, unless the dataset already contained it."""
    if addition.status in ADDITIONS:
        facts = addition.model_dump(mode="json", exclude={"dataset"})
        _emit(ADDITIONS[addition.status], addition.dataset, text=addition.describe(), **facts)


def _emit(event: str, dataset: str, **facts: Any) -> None:
    resource = {
        "prefect.resource.id": f"digits.dataset.{dataset}",
        "prefect.resource.name": dataset,
    }
    emit_event(event, resource=resource, payload={"dataset": dataset, **facts})
