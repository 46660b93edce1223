"""Kills of a run together with its worker, of a worker, and of the server."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from flows.serving.processes import STEADY_SECONDS
from flows.serving.watch import LOOK_SECONDS, NUM_LOOKS
from tests.e2e.conftest import Service, Webhook
from tests.support.small_dataset import NAME
from tests.support.waiting import wait_for

TWO_MINUTES = 120
CRASHED = "prefect.flow-run.Crashed"


def start_training(service: Service, epochs: int, seed: int) -> str:
    """Start a run, wait until it trains, and return its id."""
    run = service.start(
        "retrain", f"dataset={NAME}", 'models=["mlp"]', f"epochs={epochs}", f"seed={seed}"
    )
    wait_for(lambda: epochs_done(service, run) > 2, "the training to be under way")
    return run


def epochs_done(service: Service, run: str) -> int:
    """Return the epochs done according to the dashboard; -1 before it shows any."""
    shown = service.artifact("train-mlp", run)
    return int(shown["description"].split("epoch ")[1].split()[0]) if shown else -1


def run_pids(service: Service) -> list[int]:
    """Return the pids of the runs that the worker has started."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    return [child for child, parent in pairs if parent == service.pid("worker")]


def steady(service: Service) -> None:
    """Wait until the service would restart a part rather than give up."""
    # A part that was killed is started again within seconds.
    time.sleep(max(0, service.steady_since + STEADY_SECONDS + 5 - time.monotonic()))


def test_a_run_that_died_with_its_worker_soon_counts_as_crashed_and_the_next_resumes(
    service: Service,
) -> None:
    steady(service)
    run = start_training(service, epochs=4000, seed=1)
    (pid,) = run_pids(service)
    service.kill("worker")
    os.kill(pid, signal.SIGKILL)
    assert service.finished(run, seconds=TWO_MINUTES) == "Crashed"
    assert "ended without a word" in service.flow_run(run)["state"]["message"]

    again = start_training(service, epochs=4000, seed=1)
    resumed = wait_for(
        lambda: [log for log in logs(service, again) if "resuming after epoch" in log],
        "the log of where it resumed",
    )
    assert int(resumed[0].split("after epoch ")[1].split()[0]) >= 3

    # This time the worker is alive and sees the run die.
    (pid,) = run_pids(service)
    os.kill(pid, signal.SIGKILL)
    assert service.finished(again) == "Crashed"


def places_taken(service: Service) -> float:
    """Return how many concurrency slots are taken; each deployment has one."""
    limits = service.post("v2/concurrency_limits/filter", {"limit": 100})
    return sum(limit["active_slots"] for limit in limits)


def test_a_run_outlives_its_worker_and_its_server(service: Service) -> None:
    steady(service)
    run = start_training(service, epochs=300, seed=2)
    service.kill("worker")
    service.kill("server")
    wait_for(lambda: service.is_alive("worker") and service.is_alive("server"), "their return")
    # Without its slot, it would be stopped at the next renewal.
    assert places_taken(service) == 1
    killed_at = epochs_done(service, run)
    wait_for(lambda: epochs_done(service, run) > killed_at, "the dashboard to follow it again")
    assert service.finished(run) == "Completed"
    assert not places_taken(service)
    assert service.artifact(f"retrain-{NAME}", run) is not None
    later = service.start("retrain", f"dataset={NAME}", 'models=["mlp"]', "epochs=1", "seed=2")
    assert service.finished(later) == "Completed"


@pytest.mark.parametrize("moment", ["PENDING", "RUNNING"])
def test_a_run_killed_as_it_starts_ends_soon_frees_its_slot_and_is_told_once(
    service: Service, webhook: Webhook, moment: str
) -> None:
    steady(service)
    told = len(webhook.of(CRASHED))
    run = service.start("retrain", f"dataset={NAME}", 'models=["mlp"]', "epochs=4000", "seed=3")
    wait_for(lambda: service.flow_run(run)["state_type"] == moment, f"{run} to be {moment}")
    pids = run_pids(service)
    service.kill("worker")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert service.finished(run) == "Crashed"
    assert not places_taken(service)
    wait_for(lambda: len(webhook.of(CRASHED)) > told, "the webhook to be called")
    later = service.start("retrain", f"dataset={NAME}", 'models=["mlp"]', "epochs=1", "seed=2")
    assert service.finished(later) == "Completed"
    assert len(webhook.of(CRASHED)) == told + 1


def test_a_run_that_was_suspended_keeps_its_slot_and_goes_on(service: Service) -> None:
    steady(service)
    run = start_training(service, epochs=300, seed=4)
    (pid,) = run_pids(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        later = service.start("retrain", f"dataset={NAME}", 'models=["mlp"]', "epochs=1")
        assert service.finished(later) == "Cancelled"
        time.sleep((NUM_LOOKS + 1) * LOOK_SECONDS)
        assert service.state(run) == "Running"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert service.finished(run) == "Completed"


def test_a_run_that_died_with_the_whole_service_is_told_soon_after_the_next_start(
    make_service: Callable[..., Service], webhook: Webhook
) -> None:
    service = make_service(DIGITS_WEBHOOK_URL=webhook.url)
    service.up()
    told = len(webhook.of(CRASHED))
    run = start_training(service, epochs=4000, seed=1)
    pids = run_pids(service)
    for part in ("service", "worker", "server", "pages"):
        service.kill(part)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    service.up()
    assert service.finished(run) == "Crashed"
    wait_for(lambda: len(webhook.of(CRASHED)) > told, "the webhook to be called")
    assert not places_taken(service)


def logs(service: Service, run: str) -> list[str]:
    """Return what a run logged so far."""
    asked = {"logs": {"flow_run_id": {"any_": [run]}}}
    return [log["message"] for log in service.post("logs/filter", asked)]
