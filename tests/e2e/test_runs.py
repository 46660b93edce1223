import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.conftest import SPOILED, Service, Webhook
from tests.support.small_dataset import NAME
from tests.support.waiting import wait_for

# The steps that a run repeats for other models or other settings.
LATER_STEPS = ("train mlp", "train cnn", "evaluate mlp", "evaluate cnn", "report")
STEPS = ("ingest", "validate", "normalize", *LATER_STEPS)
# The tasks of a run that completed, and those that a promotion adds.
TASKS = {"add incoming", *STEPS, "promote"}
CONVERSIONS = {"convert mlp", "convert cnn"}


def page(service: Service, run: str) -> str:
    """Return the summary of a run in the dashboard."""
    return str(service.artifact(f"retrain-{NAME}", run)["data"])


def task_runs(service: Service, run: str, expected: set[str]) -> dict[str, Any]:
    """Wait until the expected tasks of a run have ended; return its task runs, by name.

    The server writes task runs down from a stream of events, so it may know that a run has ended
    before it knows of the run's tasks.
    """

    def ended() -> dict[str, Any]:
        found = service.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        tasks = {one["name"]: one for one in found if one["end_time"]}
        return tasks if tasks.keys() >= expected else {}

    return dict(wait_for(ended, f"the tasks {sorted(expected)} of {run}"))


def events(service: Service, name: str, dataset: str = NAME, number: int = 1) -> list[Any]:
    """Wait for at least `number` events of a name about a dataset; return them, newest first."""
    asked = {
        "filter": {
            "event": {"name": [name]},
            "resource": {"id": [f"digits.dataset.{dataset}"]},
            "order": "DESC",
        }
    }

    def found() -> list[Any]:
        known = service.post("events/filter", asked)["events"]
        return known if len(known) >= number else []

    return list(wait_for(found, f"{number} {name}"))


def comes_from(service: Service, run: str, origin: str) -> bool:
    """Return whether every step was cached, and the later steps come from the run `origin`."""
    shown = page(service, run)
    return all(f"| {step} | the cache: [" in shown for step in STEPS) and (
        shown.count(f"(/runs/flow-run/{origin})") == len(LATER_STEPS)
    )


def test_a_run_is_found_by_its_name_and_tags(service: Service, first: str) -> None:
    run = service.flow_run(first)
    assert run["name"] == f"retrain {NAME} reference"
    assert {NAME, "reference", "cpu"} <= set(run["tags"])
    tasks = task_runs(service, first, TASKS | CONVERSIONS)
    assert set(tasks) == TASKS | CONVERSIONS


def test_schedule_event_command_line_and_process_start_the_same_flow_and_share_its_steps(
    service: Service, first: str
) -> None:
    # In a few seconds, and again a minute later: a busy server may miss the first.
    at = datetime.now(UTC) + timedelta(seconds=10)
    rule = f"DTSTART:{at:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=MINUTELY;COUNT=3"
    schedules = f"deployments/{service.deployment('retrain')['id']}/schedules"
    schedule = {"active": True, "schedule": {"rrule": rule}, "parameters": {"dataset": NAME}}
    (made,) = service.post(schedules, [schedule])

    def by_schedule() -> Any:
        return next((run for run in service.runs() if run["auto_scheduled"]), None)

    scheduled = wait_for(by_schedule, "the scheduled run")["id"]
    service.ask("DELETE", f"{schedules}/{made['id']}")
    assert service.finished(scheduled) == "Completed"
    assert comes_from(service, scheduled, first)

    known = {run["id"] for run in service.runs()}
    emitted = service.prefect(
        "event", "emit", "data.arrived", "--resource-id", f"digits.dataset.{NAME}"
    )
    assert emitted.returncode == 0, emitted.stderr
    by_event = wait_for(
        lambda: next((run for run in service.runs() if run["id"] not in known), None),
        "the run that the event starts",
    )["id"]
    assert service.finished(by_event) == "Completed"
    assert comes_from(service, by_event, first)

    known = {run["id"] for run in service.runs()}
    done = service.run("digits", "run", "--dataset", NAME, "--json")
    assert done.returncode == 0, done.stderr
    # The champion comes from `first`, unless an earlier test has trained a better one.
    assert json.loads(done.stdout)["decision"]["outcome"] in ("unchanged", "kept")
    in_process = next(run for run in service.runs() if run["id"] not in known)
    assert in_process["deployment_id"] is None
    assert comes_from(service, in_process["id"], first)


def test_a_cached_step_names_the_run_that_made_it(service: Service, first: str) -> None:
    run = service.start("retrain", f"dataset={NAME}")
    assert service.finished(run) == "Completed"
    training = task_runs(service, run, TASKS)["train cnn"]
    assert training["state"]["name"] == "Cached"

    def said() -> list[str]:
        asked = {"logs": {"task_run_id": {"any_": [training["id"]]}}}
        messages = [log["message"] for log in service.post("logs/filter", asked)]
        return [message for message in messages if message.startswith("From the cache")]

    expected = f"From the cache: made by retrain {NAME} reference, flow run {first}"
    assert wait_for(said, "the task's log") == [expected]


@pytest.mark.parametrize(
    "parameters",
    [
        {"dataset": "nonsense"},
        {"models": []},
        {"models": ["svm"]},
        {"models": ["mlp", "mlp"]},
        {"recipe": "nonsense"},
        {"epochs": 0},
        {"seed": -1},
        {"device": "tpu"},
    ],
)
def test_an_invalid_parameter_is_refused_before_a_run_starts(
    service: Service, parameters: dict[str, Any]
) -> None:
    known = len(service.runs())
    path = f"deployments/{service.deployment('retrain')['id']}/create_flow_run"
    refused = service.http.post(path, json={"parameters": parameters})
    assert refused.status_code == 409
    assert next(iter(parameters)) in refused.text
    assert len(service.runs()) == known


def test_an_invalid_call_from_the_command_line_says_what_is_wrong(service: Service) -> None:
    done = service.prefect("deployment", "run", "retrain/retrain", "-p", "epochs=-3")
    assert done.returncode != 0
    assert "less than the minimum of 1" in " ".join((done.stdout + done.stderr).split())


@pytest.mark.usefixtures("first")
def test_late_runs_become_one(service: Service) -> None:
    deployment = service.deployment("retrain")["id"]
    assert service.prefect("work-pool", "pause", "digits").returncode == 0
    try:
        late = [
            service.post(
                f"deployments/{deployment}/create_flow_run",
                {
                    "parameters": {"dataset": NAME},
                    "state": {
                        "type": "SCHEDULED",
                        "state_details": {
                            "scheduled_time": (datetime.now(UTC) - timedelta(days=days)).isoformat()
                        },
                    },
                },
            )["id"]
            for days in (3, 2, 1)
        ]
    finally:
        service.prefect("work-pool", "resume", "digits")
    assert sorted(service.finished(run) for run in late) == ["Cancelled", "Cancelled", "Completed"]
    skipped = next(run for run in late if service.state(run) == "Cancelled")
    assert "concurrency limit" in service.flow_run(skipped)["state"]["message"]


def test_a_failed_validation_is_shown_and_reported_and_not_retried(
    service: Service, webhook: Webhook
) -> None:
    run = service.start("retrain", f"dataset={SPOILED}")
    assert service.finished(run) == "Failed"
    tasks = task_runs(service, run, {"add incoming", "ingest", "validate"})
    assert tasks["validate"]["run_count"] == 1
    assert "train mlp" not in tasks
    shown = service.artifact(f"validation-{SPOILED}", run)["data"]
    assert "6000" in shown
    (event,) = events(service, "validation.failed", SPOILED)
    assert event["payload"]["dataset"] == SPOILED
    told = wait_for(lambda: webhook.of("validation.failed"), "the webhook to be called")
    assert "6000" in told[0]["text"]


@pytest.mark.usefixtures("first")
def test_the_champion_is_rolled_back_from_the_server_and_its_history_is_kept(
    service: Service, webhook: Webhook
) -> None:
    def champions() -> list[str]:
        """Return the titles of the champion's pages, oldest first."""
        shown = service.artifacts(f"champion-{NAME}")
        return [one["data"].partition("\n")[0].partition(": ")[2] for one in reversed(shown)]

    assert champions() == ["version 1 is the champion", "version 2 is the champion"]
    assert service.finished(service.start("rollback", f"dataset={NAME}")) == "Completed"
    assert champions()[2:] == ["version 1 is the champion"]
    (event,) = events(service, "champion.rolled-back")
    assert event["payload"]["champion_after"] == 1
    wait_for(lambda: webhook.of("champion.rolled-back"), "the webhook to be called")

    again = service.start("rollback", f"dataset={NAME}", "version=2")
    assert service.finished(again) == "Completed"
    assert champions()[3:] == ["version 2 is the champion"]
    wrong = service.start("rollback", f"dataset={NAME}", "version=9")
    assert service.finished(wrong) == "Failed"
    assert "has no version 9" in service.flow_run(wrong)["state"]["message"]
    assert len(champions()) == 4


def test_each_decision_is_an_event_with_its_facts(
    service: Service, webhook: Webhook, first: str
) -> None:
    promoted = events(service, "champion.promoted", number=2)
    assert [event["payload"]["champion_after"] for event in promoted] == [2, 1]
    assert (
        promoted[0]["payload"]["candidate_accuracy"] > promoted[1]["payload"]["candidate_accuracy"]
    )
    assert {"prefect.resource.id": f"prefect.flow-run.{first}"}.items() <= next(
        related
        for related in promoted[0]["related"]
        if related["prefect.resource.role"] == "flow-run"
    ).items()
    told = wait_for(lambda: webhook.of("champion.promoted", '"champion_after": 2'), "the webhook")
    assert f"{NAME}: promoted" in told[0]["text"]


@pytest.mark.usefixtures("first")
def test_garbage_collection_reports_what_it_frees(service: Service) -> None:
    run = service.start("gc", "dry_run=true")
    assert service.finished(run) == "Completed"
    assert "would free" in service.artifact("gc", run)["data"]
