"""Killed sweeps: what was trained is kept, and what was being trained goes on."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults import invariants
from tests.faults.commands import TIMEOUT
from tests.faults.project import Copy
from tests.support.small_dataset import NAME

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

# Epochs enough for a kill to come before the last one.
SWEEP = ("--datasets", NAME, "--models", "mlp", "--epochs", "40", "--parallel", "1")
SWEEP += ("--device", "cpu")
SEEDS = ("--seeds", "0-2", "--json")
TRIALS = ("--trials", "3", "--set", "learning_rate=0.0001..0.01:log", "--name", "mine", "--json")


def kill_in_second_training(copy: Copy, *options: str) -> None:
    command = copy.start("sweep", *SWEEP, *options)
    command.await_file(copy.settings.artifacts_dir, "runs.lock")  # it logs from here on
    deadline = time.monotonic() + TIMEOUT
    while "train mlp 2/3: epoch 2/40" not in command.log:
        assert command.ended(within=0.01) is None, command.log
        assert time.monotonic() < deadline
    command.kill()
    assert command.wait().status != 0


def sweep(copy: Copy, *options: str) -> tuple[dict[str, Any], str]:
    """Sweep, which must succeed; return its facts and its log."""
    ended = copy.call("sweep", *SWEEP, *options)
    assert ended.status == 0, ended.log
    facts: dict[str, Any] = json.loads(ended.output)
    return facts, ended.log


def is_cached(facts: dict[str, Any]) -> list[bool]:
    return [training["is_cached"] for training in facts["trainings"]]


def test_a_killed_sweep_goes_on_where_it_was(pristine: Copy, tmp_path: Path) -> None:
    whole, _ = sweep(pristine.duplicate(tmp_path / "whole"), *SEEDS)
    copy = pristine.duplicate(tmp_path / "killed")
    kill_in_second_training(copy, *SEEDS)
    invariants.check(copy.settings)

    facts, log = sweep(copy, *SEEDS)

    assert is_cached(facts) == [True, False, False]
    assert log.count("resuming after epoch") == 1
    digests = [[one["digest"] for one in found["trainings"]] for found in (whole, facts)]
    assert digests[0] == digests[1]
    invariants.check(copy.settings)


def test_a_killed_trial_is_tried_again_and_its_training_goes_on(
    pristine: Copy, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    copy = pristine.duplicate(tmp_path)
    kill_in_second_training(copy, *TRIALS)

    facts, log = sweep(copy, *TRIALS)

    assert is_cached(facts) == [True, False, False]
    assert log.count("resuming after epoch") == 1
    again, _ = sweep(copy, *TRIALS)
    assert is_cached(again) == [True, True, True]
