"""Trainings on workers of another pool: what is refused, and which results are believed."""

from typing import Any

import pytest

from digits.errors import DigitsError, UsageError
from digits.storage.records import Record
from digits.storage.references import ArraysRef, ModelRef
from digits.storage.workspace import Workspace
from flows.elsewhere import checked, require_store
from tests.support.commands import call_digits
from tests.support.small_dataset import NAME


@pytest.fixture
def record(finished: Workspace) -> Record:
    """The record of the training of a run."""
    return next(one for one in finished.records.all() if one.key.step == "train")


@pytest.fixture
def asked(finished: Workspace, record: Record) -> dict[str, Any]:
    """What that training was asked for."""
    arrays = next(one.reference for one in finished.records.all() if one.key.step == "normalize")
    made = record.reference
    assert isinstance(arrays, ArraysRef)
    assert isinstance(made, ModelRef)
    return {"arrays": arrays, "model": made.model, "settings": made.settings}


def test_the_result_of_the_training_that_was_asked_for_is_used(
    record: Record, asked: dict[str, Any]
) -> None:
    assert checked(record, asked, "the run") == record.reference


def test_another_training_is_not_used(
    finished: Workspace, record: Record, asked: dict[str, Any]
) -> None:
    other = asked["settings"].model_copy(update={"seed": 5})
    evaluation = next(one for one in finished.records.all() if one.key.step == "evaluate")
    code = {**record.key.code, "tasks/train.py: train": "0" * 64}
    edited = record.model_copy(update={"key": record.key.model_copy(update={"code": code})})
    for made, wanted in (
        (record, {**asked, "settings": other}),
        (record, {**asked, "arrays": asked["arrays"].model_copy(update={"digest": "0" * 64})}),
        (evaluation, asked),
        (edited, asked),
    ):
        with pytest.raises(DigitsError, match="another training than it was asked for"):
            checked(made, wanted, "the run")


def test_a_store_that_both_machines_use_is_needed(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="set DIGITS_STORE"):
        require_store(workspace)


@pytest.mark.usefixtures("here")
def test_a_server_with_workers_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = call_digits("run", "--dataset", NAME, "--train-on", "digits-gpu")
    assert done.exit_code == 2
    assert "set PREFECT_API_URL" in done.stderr
