"""Whole runs with every step in another process, beside a run in one process."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from digits.storage.workspace import Workspace
from flows.pipeline import Steps
from flows.retrain import retrain, steps_noted_in
from flows.runners import task_runner
from tasks.journal import Journal, NotedStep
from tests.flows.conftest import REQUEST, FinishedRun
from tests.support.commands import call_digits, read_json
from tests.support.small_dataset import NAME, write_small_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def submitted(step: NotedStep[Any], **arguments: Any) -> Any:
    return step.submit(**arguments).result()


def steps_elsewhere(kept: Journal) -> Steps:
    """A run's steps, all of them submitted to the runner of the flow."""
    steps = steps_noted_in(kept)
    called = {name: getattr(steps, name) for name in ("ingest", "validate", "normalize")}
    called |= {"convert": steps.convert, "report": steps.report}
    return replace(steps, **{name: partial(submitted, step) for name, step in called.items()})


def processes() -> TaskRunner[Any]:
    return ProcessPoolTaskRunner(max_workers=2)


def ray() -> TaskRunner[Any]:
    return task_runner("ray")


def results(workspace: Workspace) -> Mapping[tuple[str, str], str]:
    """The digest of each result, by step and cache key.

    Without the report, which shows how long trainings took, and OMP_NUM_THREADS, which Ray sets.
    """
    return {
        (record.label, record.key.digest): record.value["digest"]
        for record in workspace.records.all()
        if record.label != "report"
    }


@pytest.mark.parametrize("runner", [processes, ray])
def test_a_run_elsewhere_makes_and_reports_what_a_run_in_one_process_does(
    runner: Callable[[], TaskRunner[Any]],
    first_run: FinishedRun,
    current: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_small_dataset(current.settings)
    with monkeypatch.context() as patched:
        patched.setattr("flows.retrain.steps_noted_in", steps_elsewhere)
        elsewhere = retrain.with_options(task_runner=runner(), flow_run_name="elsewhere")
        first, second = (elsewhere(dataset=NAME, epochs=1, device="cpu") for _ in range(2))
    assert first.steps == dict.fromkeys([*(label for label, _ in results(current)), "report"])
    assert results(current) == results(Workspace(first_run.settings))
    assert first.outcome.decision.entry.verdict.outcome == "promoted"
    # Nothing is converted if nothing is promoted.
    assert second.steps.keys() == {step for step in first.steps if not step.startswith("convert")}
    here = read_json(call_digits("run", *REQUEST, "--json"))["steps"]
    assert here == {step: f"cached from {made_in}" for step, made_in in second.steps.items()}
    assert all(made_in.startswith("cached from elsewhere of 20") for made_in in here.values())
