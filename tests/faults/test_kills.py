"""Kills: visible files stay intact, the champion is the old or the new one, the next run works.

The killed runs execute every step: all data is new, and a champion is to be replaced. They are
killed at a random moment, chosen by time or by the number of changes to the disk so far.
"""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.faults import invariants
from tests.faults.conftest import Tally
from tests.faults.preludes import Changes
from tests.faults.project import Copy, Run
from tests.support.handwriting import Splits, make_splits
from tests.support.small_dataset import write_small_dataset

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

OPTIONS = ("--models", "mlp", "--epochs", "2")


@dataclass(frozen=True)
class Uninterrupted:
    """A run that is not killed: its starting point, its results, and how long it takes."""

    begin: Copy
    run: Run
    results: dict[str, set[str]]
    seconds: float
    num_changes: int


@pytest.fixture(scope="module")
def uninterrupted(pristine: Copy, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    folder = tmp_path_factory.mktemp("uninterrupted")
    begin = pristine.duplicate(folder / "begin")
    make_poor_champion(begin)
    copy = begin.duplicate(folder / "end")
    total = folder / "total"
    started = time.monotonic()
    run = copy.run(*OPTIONS, prelude=Changes(copy.folder, total=total))
    seconds = time.monotonic() - started
    assert (run.outcome, run.champion) == ("promoted", 2)
    return Uninterrupted(
        begin, run, invariants.results(copy.settings), seconds, int(total.read_text())
    )


def make_poor_champion(copy: Copy) -> None:
    """Create a champion trained on other data, a third of it with wrong labels."""
    (x_train, y_train), (x_test, y_test) = make_splits().values()
    y_train[::3] = np.roll(y_train[::3], 1)
    poor: Splits = {"train": (x_train, y_train), "test": (x_test[:-10], y_test[:-10])}
    write_small_dataset(copy.settings, poor)
    assert copy.run("--models", "mlp").champion == 1
    write_small_dataset(copy.settings)


@dataclass(frozen=True)
class Kill:
    """When to kill a run, as a share of its changes to the disk or of its duration."""

    share: float
    is_by_clock: bool


def draw(seed: int, num_kills: int) -> list[Kill]:
    """Draw random kills, half by time and half by changes."""
    chance = random.Random(seed)
    return [Kill(chance.random(), is_by_clock=bool(number % 2)) for number in range(num_kills)]


def check_kill(kill: Kill, uninterrupted: Uninterrupted, folder: Path) -> None:
    """Kill a run, and assert that everything is intact and the next run completes the work."""
    copy = uninterrupted.begin.duplicate(folder)
    if kill.is_by_clock:
        run = copy.start("run", *OPTIONS)
        if run.ended(within=kill.share * uninterrupted.seconds) is None:
            run.kill()
        status = run.wait().status
        if status == 0:
            # It was faster than the timed run.
            check_kill(Kill(kill.share / 2, is_by_clock=True), uninterrupted, folder / "sooner")
            return
    else:
        number = 1 + int(kill.share * uninterrupted.num_changes)
        at = Changes(copy.folder, kill_at=number)
        status = copy.call("run", *OPTIONS, prelude=at).status
    assert status == -signal.SIGKILL
    check_survived(copy, uninterrupted)


def check_survived(copy: Copy, uninterrupted: Uninterrupted) -> None:
    invariants.check(copy.settings)
    assert invariants.champion(invariants.ledger(copy.settings)) in (1, 2)
    finished = {
        record.path: record.path.stat().st_ino for record in invariants.finished(copy.settings)
    }
    begun = invariants.begun(copy.settings)
    run = copy.run(*OPTIONS)
    invariants.check(copy.settings)
    assert not invariants.leftovers(copy.settings)
    # Rewriting a record would give it another inode.
    assert finished == {path: path.stat().st_ino for path in finished}
    assert run.log.count("resuming after epoch") == len(begun)
    assert run.champion == 2
    assert run.models == uninterrupted.run.models
    assert invariants.results(copy.settings) == uninterrupted.results


def check_kills(
    kills: list[Kill], uninterrupted: Uninterrupted, tmp_path: Path, tally: Tally
) -> None:
    """Check two kills at a time, since one run does not keep two cores busy."""

    def check_one(number: int) -> None:
        with tally.attempt("kills"):
            check_kill(kills[number], uninterrupted, tmp_path / str(number))

    with ThreadPoolExecutor(2) as pool:
        for checked in [pool.submit(check_one, number) for number in range(len(kills))]:
            checked.result()


def test_kills_leave_everything_intact_and_the_next_run_completes_the_work(
    uninterrupted: Uninterrupted, tmp_path: Path, tally: Tally
) -> None:
    check_kills(draw(0, 2), uninterrupted, tmp_path, tally)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_ten_kills_leave_everything_intact_and_the_next_run_completes_the_work(
    seed: int, uninterrupted: Uninterrupted, tmp_path: Path, tally: Tally
) -> None:
    check_kills(draw(seed, 10), uninterrupted, tmp_path, tally)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["run", "server"])
@pytest.mark.parametrize("moment", ["train.parquet", "checkpoint.json", "model.keras"])
def test_killed_run_or_server_leaves_everything_intact_and_no_process(
    moment: str, victim: str, uninterrupted: Uninterrupted, tmp_path: Path, tally: Tally
) -> None:
    with tally.attempt("kills"):
        copy = uninterrupted.begin.duplicate(tmp_path / "copy")
        num_there = len(list(copy.folder.rglob(moment)))
        run = copy.start("run", *OPTIONS, is_fresh=True)
        run.await_file(copy.folder, moment, num_there + 1)
        (server,) = children(run.pid)
        os.kill(run.pid if victim == "run" else server, signal.SIGKILL)
        ended = run.wait()
        if victim == "server":
            assert ended.status == 0, ended.log
            assert "starting it again" in ended.log
            assert "rror logging" not in ended.log
            assert "failed to process" not in ended.log
            assert "Traceback" not in ended.log
        await_end(server)
        if ended.status == 0:
            invariants.check(copy.settings)
        else:
            check_survived(copy, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["rollback", "gc"])
def test_command_killed_before_any_of_its_changes_works_the_next_time(
    command: str, uninterrupted: Uninterrupted, tmp_path: Path, tally: Tally
) -> None:
    begin = uninterrupted.begin.duplicate(tmp_path / "begin")
    begin.run(*OPTIONS)
    options = ("--keep", "1") if command == "gc" else ("1",)
    total = tmp_path / "total"
    whole = begin.duplicate(tmp_path / "whole")
    assert whole.call(command, *options, prelude=Changes(whole.folder, total=total)).status == 0
    for number in range(1, int(total.read_text()) + 1):
        with tally.attempt("kills"):
            copy = begin.duplicate(tmp_path / str(number))
            at = Changes(copy.folder, kill_at=number)
            assert copy.call(command, *options, prelude=at).status == -signal.SIGKILL
            invariants.check(copy.settings)
            assert invariants.champion(invariants.ledger(copy.settings)) in (1, 2)
            copy.call(command, *options)
            invariants.check(copy.settings)
            assert invariants.results(copy.settings) == invariants.results(whole.settings)
            assert not copy.call("plan", *OPTIONS).status


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "a server was left behind"
        time.sleep(0.05)
