"""How a run's journal comes from what its tasks return."""

import logging
from collections.abc import Mapping

import pytest
from prefect import flow
from prefect.states import Completed

from digits.storage.records import Record
from digits.storage.workspace import Workspace
from tasks.journal import CACHED, UNKNOWN_RUN, Journal
from tests.tasks.steps import dataset, normalize, record_file, run

pytestmark = pytest.mark.usefixtures("current")

EXECUTED = Completed()
FOUND = Completed(name=CACHED)


def test_executed_and_cached_steps_are_distinguished() -> None:
    result, kept = run("an earlier run").result, Journal()
    kept.note("validate", result, EXECUTED)
    kept.note("normalize", result, FOUND)
    assert kept.steps["validate"] is None
    assert str(kept.steps["normalize"]).startswith("an earlier run of 20")
    assert kept.executed == ["validate"]


def test_a_step_that_was_executed_once_counts_as_executed() -> None:
    result, kept = run("an earlier run").result, Journal()
    for state in (FOUND, EXECUTED, FOUND):
        kept.note("normalize", result, state)
    assert kept.steps == {"normalize": None}


def test_a_step_counts_as_executed_though_another_machine_recorded_the_same_meanwhile(
    current: Workspace,
) -> None:
    outcome = run()
    record = current.records.read(outcome.result.made_by)
    assert record is not None
    current.records.write(record.key, outcome.result, run_id="0", run_name="another machine's")
    kept = Journal()
    kept.note("normalize", outcome.result, EXECUTED)
    assert kept.executed == ["normalize"]


def test_a_cached_step_stays_cached_though_its_record_is_deleted_meanwhile() -> None:
    outcome, kept = run(), Journal()
    record_file(outcome).unlink()
    kept.note("normalize", outcome.result, FOUND)
    assert kept.steps == {"normalize": UNKNOWN_RUN}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the steps logged; Prefect logs too."""
    return [record.message for record in caplog.records if record.name.startswith("tasks.")]


@flow(persist_result=False)
def use_twice() -> Mapping[str, str | None]:
    """One run that needs the same result twice."""
    kept = Journal()
    noted = kept.noting(normalize)
    assert noted(dataset=dataset()) == noted.submit(dataset=dataset()).result()
    return kept.steps


def test_a_step_used_twice_in_a_run_is_executed_once_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "tasks"):
        assert use_twice() == {"normalize": None}
    assert said(caplog) == ["normalize: running"]


def test_a_cached_step_is_logged_with_the_run_that_made_it(
    caplog: pytest.LogCaptureFixture, current: Workspace
) -> None:
    outcome = run("an earlier run")
    record = current.records.read(outcome.result.made_by)
    assert isinstance(record, Record)
    caplog.clear()
    with caplog.at_level(logging.INFO, "tasks"):
        run("a later run")
    when = f"{record.created:%Y-%m-%d %H:%M}"
    assert said(caplog) == [f"normalize: from the cache, made by an earlier run of {when}"]
