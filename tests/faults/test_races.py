"""Two runs at once: each training is done once, no decision is lost, no run waits for the dead."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults import invariants
from tests.faults.commands import Command
from tests.faults.conftest import Tally
from tests.faults.project import Copy, Run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# What a run adds if it promotes a model.
CONVERSIONS = frozenset({"convert mlp", "convert cnn"})

# All trainings run on a fake GPU, and record when they begin and end.
PRETENDED_GPU = """

def resolve_device(requested: Device) -> str:
    return "gpu:Pretended GPU"

_really_configure = configure_backend

def configure_backend(device: str) -> None:
    _really_configure("cpu")
"""
NOTED = """

_really_train = train_model

def train_model(*arguments: Any, **named: Any) -> Any:
    with open({path!r}, "a") as notes:
        notes.write("begin\\n")
        notes.flush()
        trained = _really_train(*arguments, **named)
        notes.write("end\\n")
    return trained
"""


@pytest.mark.parametrize(
    "seeds",
    [[46], *(pytest.param(range(n, n + 5), marks=pytest.mark.slow) for n in range(1, 45, 5))],
    ids=lambda seeds: f"seeds from {seeds[0]}",
)
def test_two_runs_at_once_train_once_and_both_decide(
    seeds: Sequence[int], copy: Copy, tally: Tally
) -> None:
    for seed in seeds:
        with tally.attempt("races"):
            options = ("--models", "mlp", "--seed", str(seed))
            executed = race(copy, *options)
            assert executed - CONVERSIONS == {"train mlp", "evaluate mlp", "report"}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_two_first_runs_at_once_execute_each_step_once(
    number: int,  # noqa: ARG001
    pristine: Copy,
    tmp_path: Path,
    tally: Tally,
) -> None:
    with tally.attempt("races"):
        copy = pristine.duplicate(tmp_path / "copy")
        assert race(copy) == copy.run().steps | CONVERSIONS


def race(copy: Copy, *options: str) -> frozenset[str]:
    """Run the same twice at once; return the executed steps, each executed by one run only."""
    before = invariants.ledger(copy.settings)
    one, other = (Run.of(racer.wait()) for racer in start_two(copy, *options))
    assert not one.executed & other.executed
    assert one.models == other.models
    after = invariants.ledger(copy.settings)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    invariants.check(copy.settings)
    assert not invariants.leftovers(copy.settings)
    return one.executed | other.executed


def start_two(copy: Copy, *options: str) -> list[Command]:
    return [copy.start("run", *options, "--json") for _ in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_waiting_run_resumes_where_the_killed_one_stopped(
    seed: int, copy: Copy, tally: Tally
) -> None:
    with tally.attempt("races"):
        options = ("--models", "mlp", "--seed", str(seed), "--epochs", "3")
        racers = start_two(copy, *options)
        racers[0].await_file(copy.settings.artifacts_dir / "checkpoints", "checkpoint.json", 3)
        # Either may have waited for the other at an earlier step.
        waits, trains = sorted(racers, key=lambda racer: "train mlp: running" in racer.log)
        trains.kill()
        assert trains.wait().status < 0
        run = Run.of(waits.wait())
        assert run.executed - CONVERSIONS == {"train mlp", "evaluate mlp", "report"}
        assert run.log.count("resuming after epoch") == 1
        invariants.check(copy.settings)


@pytest.mark.slow
def test_garbage_collection_waits_for_an_active_run(copy: Copy, tally: Tally) -> None:
    with tally.attempt("races"):
        run = copy.start("run", "--seed", "1", "--json")
        run.await_file(copy.settings.artifacts_dir / "checkpoints", "checkpoint.json", 3)
        collected = copy.call("gc", "--keep", "1")
        assert run.ended(within=5) is not None
        Run.of(run.wait())
        assert collected.status == 0
        invariants.check(copy.settings)
        assert not copy.run("--seed", "1").executed


@pytest.mark.slow
def test_only_one_training_uses_the_gpu_at_a_time(copy: Copy, tmp_path: Path, tally: Tally) -> None:
    with tally.attempt("races"):
        notes = tmp_path / "notes"
        copy.append("digits/training/devices.py", PRETENDED_GPU)
        copy.append("digits/training/trainer.py", NOTED.format(path=str(notes)))
        runs = [copy.start("run", "--seed", str(seed), "--json") for seed in (1, 2)]
        for run in runs:
            assert {"train mlp", "train cnn"} < Run.of(run.wait()).executed
        assert notes.read_text().split() == ["begin", "end"] * 4
