"""Corrupted files on disk: detected before use, reported in one line, and repaired."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import invariants
from tests.faults.conftest import Tally
from tests.faults.preludes import Changes
from tests.faults.project import Copy
from tests.support.small_dataset import NAME

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

Damage = Callable[[Path], object]
STEPS = ("ingest", "validate", "normalize", "train mlp", "evaluate mlp", "report")
MADE = (*STEPS, "convert mlp")
THREE_EPOCHS = ("--models", "mlp", "--epochs", "3")


def gone(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def altered(path: Path) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    chance = random.Random(path.name)
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


DAMAGES = (gone, truncated, altered)
each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


def test_corruption_of_every_artifact_at_once_is_detected_and_repaired(
    copy: Copy, tally: Tally
) -> None:
    mlp = ("--models", "mlp")
    copy.run(*mlp)
    before = invariants.results(copy.settings)
    for number, label in enumerate(MADE):
        with tally.attempt("damage"):
            files = sorted(by_step(copy)[label].bundle.iterdir())
            DAMAGES[number % 3](files[number % len(files)])
    run = copy.run(*mlp)
    assert run.executed == set(MADE)
    for label in MADE:
        assert_noticed(run.log, label)
    check_healed(copy, before, *mlp)


@pytest.mark.slow
@each_damage
@pytest.mark.parametrize("label", MADE)
def test_corrupted_artifact_is_detected_and_repaired(
    label: str, damage: Damage, copy: Copy, tally: Tally
) -> None:
    before = invariants.results(copy.settings)
    for path in sorted(by_step(copy)[label].bundle.iterdir()):
        with tally.attempt("damage"):
            damage(path)
            assert copy.plan()[label] == "run"
            run = copy.run()
            assert run.executed == {label}
            assert str(path) in assert_noticed(run.log, label)
            check_healed(copy, before)


@pytest.mark.slow
@pytest.mark.parametrize("label", MADE)
def test_missing_artifact_or_one_with_an_extra_file_is_made_again(
    label: str, copy: Copy, tally: Tally
) -> None:
    before = invariants.results(copy.settings)
    bundle = by_step(copy)[label].bundle
    for damage in (
        lambda: shutil.rmtree(bundle),
        lambda: (bundle / "planted.txt").write_text("planted", encoding="utf-8"),
    ):
        with tally.attempt("damage"):
            damage()
            run = copy.run()
            assert run.executed == {label}
            assert str(bundle) in assert_noticed(run.log, label)
            check_healed(copy, before)


@pytest.mark.slow
@pytest.mark.parametrize("label", STEPS)  # a run reads the record of a conversion only to promote
def test_corrupted_record_is_detected_and_its_step_runs_again(
    label: str, copy: Copy, tally: Tally
) -> None:
    before = invariants.results(copy.settings)
    record = by_step(copy)[label].path
    other = by_step(copy)["train cnn"].path
    for damage in (gone, truncated, altered, lambda path: shutil.copy(other, path)):
        with tally.attempt("damage"):
            damage(record)
            assert copy.plan()[label] == "run"
            run = copy.run()
            assert run.executed == {label}
            if damage is not gone:
                assert str(record) in assert_noticed(run.log, label)
            check_healed(copy, before)


@pytest.fixture(scope="module")
def interrupted(
    complete: Copy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Copy, dict[str, str]]:
    """A copy whose training was killed in epoch 2 of 3, and the models of an uninterrupted run."""
    copy = complete.duplicate(tmp_path_factory.mktemp("interrupted"))
    at = Changes(copy.settings.artifacts_dir / "checkpoints", "epoch-0002", kill_at=1)
    killed = copy.call("run", *THREE_EPOCHS, prelude=at)
    assert killed.status < 0
    whole = complete.duplicate(tmp_path_factory.mktemp("uninterrupted"))
    return copy, whole.run(*THREE_EPOCHS).models


@pytest.mark.slow
@each_damage
@pytest.mark.parametrize("name", ["checkpoint.json", "epoch-0001.npz"])
def test_corrupted_checkpoint_is_detected_and_the_training_starts_over(
    name: str,
    damage: Damage,
    interrupted: tuple[Copy, dict[str, str]],
    tmp_path: Path,
    tally: Tally,
) -> None:
    copy, models = interrupted[0].duplicate(tmp_path / "copy"), interrupted[1]
    with tally.attempt("damage"):
        (folder,) = invariants.begun(copy.settings)
        damage(folder / name)
        run = copy.run(*THREE_EPOCHS)
        assert run.models == models
        assert "resuming after epoch" not in run.log
        if not (damage is gone and name == "checkpoint.json"):
            assert run.log.count("training from the start") == 1
        invariants.check(copy.settings)


@pytest.mark.slow
def test_version_with_a_corrupted_lineage_is_not_reproduced(copy: Copy, tally: Tally) -> None:
    (path,) = (copy.settings.artifacts_dir / "lineages").glob("*/lineage.json")
    for damage in (altered, truncated, gone):
        with tally.attempt("damage"):
            damage(path)
            refused = copy.call("reproduce", "1")
            assert refused.status == 1
            assert str(path) in last_line(refused.log)
            assert not copy.run().executed


@pytest.mark.slow
def test_corrupted_champion_is_not_compared(copy: Copy, tally: Tally) -> None:
    with tally.attempt("damage"):
        before = invariants.ledger(copy.settings)
        records = by_step(copy)
        damaged = records["train mlp"].bundle / "model.keras"
        altered(damaged)
        altered(records["evaluate mlp"].bundle / "metrics.json")
        refused = copy.call("run", "--seed", "5")
        assert refused.status == 1
        assert str(damaged) in last_line(refused.log)
        assert invariants.ledger(copy.settings) == before
        # Repeating the run that made the champion repairs it.
        assert copy.run().executed == {"train mlp", "evaluate mlp"}
        copy.run("--seed", "5")
        invariants.check(copy.settings)


@pytest.mark.parametrize("command", ["run", "plan", "status", "history", "rollback"])
def test_altered_ledger_is_refused(command: str, copy: Copy, tally: Tally) -> None:
    path = copy.settings.artifacts_dir / "ledger" / f"{NAME}.jsonl"
    with tally.attempt("damage"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"outcome":"promoted"', '"outcome":"unchanged"'), "utf-8")
        damaged = path.read_bytes()
        refused = copy.call(command)
        assert refused.status == 1
        assert f"{path} line 1" in last_line(refused.log)
        assert path.read_bytes() == damaged


def by_step(copy: Copy) -> dict[str, invariants.Finished]:
    return {record.label: record for record in invariants.finished(copy.settings)}


def assert_noticed(log: str, label: str) -> str:
    """Return the only log line that says that a step runs again."""
    (line,) = (line for line in log.splitlines() if f" {label}: " in line and "runs again" in line)
    return line


def last_line(log: str) -> str:
    line = log.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def check_healed(copy: Copy, before: dict[str, set[str]], *options: str) -> None:
    """Assert that everything is intact, unchanged and cached again."""
    # A new report contains other durations, so the corrupted one is a different bundle.
    invariants.check_known(copy.settings)
    assert not invariants.leftovers(copy.settings)
    assert invariants.results(copy.settings) == before
    plan = copy.plan(*options)
    assert "run" not in {would for step, would in plan.items() if step != "promote"}
