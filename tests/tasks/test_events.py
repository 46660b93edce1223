from typing import Any

import pytest

from digits.intake.incoming import Addition
from digits.validation.findings import ValidationOutcome
from tasks import events
from tasks.events import emit_addition, emit_decision, emit_validation_failed
from tests.support.findings import TOO_FEW_IMAGES
from tests.support.shown import make_entry, make_verdict
from tests.support.small_dataset import NAME

RESOURCE = {"prefect.resource.id": f"digits.dataset.{NAME}", "prefect.resource.name": NAME}


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """The events that would be sent to the server, each with resource and payload."""
    sent: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def emit_event(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        sent.append((event, resource, payload))

    monkeypatch.setattr(events, "emit_event", emit_event)
    return sent


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        ("promoted", "champion.promoted"),
        ("kept", "champion.kept"),
        ("unchanged", "champion.unchanged"),
        ("rolled back", "champion.rolled-back"),
    ],
)
def test_a_decision_is_an_event_of_its_dataset_with_the_facts(
    emitted: list[Any], outcome: str, event: str
) -> None:
    emit_decision(make_entry(make_verdict(outcome, 1, 2)))
    ((name, resource, facts),) = emitted
    assert (name, resource) == (event, RESOURCE)
    assert facts["text"] == f"{NAME}: {outcome}: the cnn was {outcome}"
    assert (facts["champion_before"], facts["champion_after"], facts["run"]) == (1, 2, "a run")


def test_a_failed_validation_is_an_event_with_the_failures(emitted: list[Any]) -> None:
    finding = TOO_FEW_IMAGES
    emit_validation_failed(NAME, ValidationOutcome(findings=(finding,)))
    ((name, resource, facts),) = emitted
    assert (name, resource) == ("validation.failed", RESOURCE)
    assert facts["failures"] == [str(finding)]
    assert "found 600, expected 6000" in facts["text"]


def test_the_outcome_of_a_batch_is_an_event_unless_nothing_changed(emitted: list[Any]) -> None:
    facts = {"dataset": NAME, "source": "a.npz", "version": 2}
    for status in ("accepted", "known", "quarantined"):
        emit_addition(Addition(status=status, reasons=("half is blank",), **facts))

    (accepted, resource, payload), (quarantined, _, refusal) = emitted
    assert (accepted, quarantined) == ("batch.accepted", "batch.quarantined")
    assert (resource, payload["version"]) == (RESOURCE, 2)
    assert "refused, nothing was added" in refusal["text"]
    assert refusal["reasons"] == ["half is blank"]
