"""Steps cross the border of a process: by their names, and with all that a call needs."""

import importlib
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner

from digits.cache.keys import STEPS
from digits.datasets.defects import DefectError
from digits.errors import DigitsError
from digits.storage.workspace import Workspace
from digits.validation.findings import ValidationFailed, ValidationOutcome
from tasks.journal import Journal
from tests.tasks import steps
from tests.tasks.steps import Outcome, dataset


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_step_is_pickled_by_its_name(name: str, pickler: Any) -> None:
    step = getattr(importlib.import_module(f"tasks.{name}"), name)
    content = pickler.dumps(step)
    assert pickle.loads(content) is step
    assert len(content) < 100


@pytest.mark.parametrize(
    "error",
    [
        DefectError("corrupt_file", "one file cannot be read"),
        ValidationFailed(ValidationOutcome(findings=(), num_shared_images=0), Path("page.html")),
    ],
)
def test_an_error_of_a_step_is_the_same_in_the_process_of_the_flow(error: DigitsError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


@flow(name="normalize elsewhere", flow_run_name="{name}", persist_result=False)
def in_another_process(name: str) -> Outcome:  # noqa: ARG001
    """One run whose step runs in a process of its own."""
    kept = Journal()
    noted = kept.noting(steps.normalize)
    return Outcome(noted.submit(dataset=dataset()).result(), kept)


def test_a_step_in_another_process_is_recorded_noted_and_found_as_in_this_one(
    current: Workspace,
) -> None:
    elsewhere = in_another_process.with_options(task_runner=ProcessPoolTaskRunner(max_workers=1))
    first = elsewhere("first")
    assert first.journal.steps == {"normalize": None}
    record = current.records.verified(first.result.made_by)
    assert record is not None
    assert record.run_name == "first"
    assert record.reference == first.result
    here = steps.run("second")
    assert here.result == first.result
    assert str(here.journal.steps["normalize"]).startswith("first of 20")
