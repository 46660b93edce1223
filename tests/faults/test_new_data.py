"""New data during kills and other commands: the dataset is old or new, but always intact."""

import signal
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.kept_batches import read_batch
from digits.datasets.versions import DatasetVersions
from digits.intake.incoming import incoming_folder, quarantine_folder
from digits.spec import load_spec
from tests.faults import invariants
from tests.faults.conftest import Tally
from tests.faults.preludes import Changes
from tests.faults.project import Copy
from tests.support.handwriting import Pair, make_more
from tests.support.small_dataset import NAME

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def save(batch: Pair, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=batch[0], y_train=batch[1])
    return path


def check(copy: Copy) -> int:
    """Assert that the dataset is intact and return its version."""
    version = DatasetVersions(NAME, copy.settings).current()
    layout = load_spec(NAME, copy.settings).layout
    for batch in version.batches:
        parts = list(read_batch(batch, DatasetVersions(NAME, copy.settings), layout))
        assert sum(len(labels) for _, labels in parts) == 80
    invariants.check(copy.settings)
    return version.number


def names(folder: Path) -> list[str]:
    """Return all file names, except chain heads, which the next line updates."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.name for path in files if path.suffix != ".head")


def test_an_addition_killed_before_any_of_its_changes_leaves_the_old_or_new_dataset(
    complete: Copy, tmp_path: Path, tally: Tally
) -> None:
    path, total = save(make_more(80, 1), tmp_path / "a.npz"), tmp_path / "total"
    add = ("dataset", "add", "--dataset", NAME, str(path))
    whole = complete.duplicate(tmp_path / "whole")
    assert whole.call(*add, prelude=Changes(whole.folder, total=total)).status == 0
    ledger = invariants.ledger(whole.settings)
    for number in range(1, int(total.read_text()) + 1):
        with tally.attempt("kills"):
            copy = complete.duplicate(tmp_path / str(number))
            killed = copy.call(*add, prelude=Changes(copy.folder, kill_at=number))
            assert killed.status == -signal.SIGKILL
            assert check(copy) in (1, 2)
            assert copy.call(*add).status == 0
            assert check(copy) == 2
            batches = copy.settings.data_dir / "batches"
            assert names(batches) == names(whole.settings.data_dir / "batches")
            assert invariants.ledger(copy.settings) == ledger


@pytest.mark.parametrize("is_good", [True, False])
def test_an_incoming_batch_is_never_lost_or_partially_added(
    is_good: bool, complete: Copy, tmp_path: Path, tally: Tally
) -> None:
    begin = complete.duplicate(tmp_path / "begin")
    images, labels = make_more(80, 1)
    batch = (images if is_good else 255 - images, labels)
    folder = incoming_folder(NAME, begin.settings)
    content = save(batch, folder / "a.npz").read_bytes()
    add_incoming = ("dataset", "add-incoming", "--dataset", NAME)
    whole, total = begin.duplicate(tmp_path / "whole"), tmp_path / "total"
    ended = whole.call(*add_incoming, prelude=Changes(whole.folder, total=total))
    assert ended.status == (0 if is_good else 1), ended.log
    for number in range(1, int(total.read_text()) + 1):
        with tally.attempt("kills"):
            copy = begin.duplicate(tmp_path / str(number))
            killed = copy.call(*add_incoming, prelude=Changes(copy.folder, kill_at=number))
            assert killed.status == -signal.SIGKILL
            version, quarantine = check(copy), quarantine_folder(NAME, copy.settings)
            # Claimed batches are in a hidden folder.
            left = [*incoming_folder(NAME, copy.settings).rglob("a.npz")]
            left += quarantine.glob("[!.]*/originals/a.npz")
            assert version == 2 or left[0].read_bytes() == content
            copy.call(*add_incoming)
            assert check(copy) == (2 if is_good else 1)
            assert not list(incoming_folder(NAME, copy.settings).iterdir())
            expected = names(quarantine_folder(NAME, whole.settings))
            assert names(quarantine) == expected
            assert len(expected) == (0 if is_good else 3)


def test_a_batch_that_replaces_one_whose_addition_was_killed_is_added_as_well(
    complete: Copy, tmp_path: Path, tally: Tally
) -> None:
    begin = complete.duplicate(tmp_path / "begin")
    path, total = incoming_folder(NAME, begin.settings) / "a.npz", tmp_path / "total"
    save(make_more(80, 1), path)
    new = save(make_more(80, 2), tmp_path / "new.npz").read_bytes()
    add_incoming = ("dataset", "add-incoming", "--dataset", NAME)
    whole = begin.duplicate(tmp_path / "whole")
    assert whole.call(*add_incoming, prelude=Changes(whole.folder, total=total)).status == 0
    for number in range(1, int(total.read_text()) + 1):
        with tally.attempt("kills"):
            copy = begin.duplicate(tmp_path / str(number))
            copy.call(*add_incoming, prelude=Changes(copy.folder, kill_at=number))
            incoming = incoming_folder(NAME, copy.settings)
            was_claimed = not (incoming / "a.npz").exists()
            (incoming / ".new").write_bytes(new)
            (incoming / ".new").replace(incoming / "a.npz")
            assert copy.call(*add_incoming).status == 0
            assert check(copy) == (3 if was_claimed else 2)
            assert not list(incoming.iterdir())


def test_two_additions_at_once_both_succeed(complete: Copy, tmp_path: Path) -> None:
    copy = complete.duplicate(tmp_path / "copy")
    paths = [save(make_more(80, seed), tmp_path / f"{seed}.npz") for seed in (1, 2)]

    commands = [copy.start("dataset", "add", "--dataset", NAME, str(path)) for path in paths]
    ended = [command.wait() for command in commands]

    assert [one.status for one in ended] == [0, 0]
    assert check(copy) == 3
    assert {batch.source for batch in DatasetVersions(NAME, copy.settings).current().batches} == {
        str(path) for path in paths
    }


def test_an_addition_during_a_run_is_used_by_the_next_run(complete: Copy, tmp_path: Path) -> None:
    copy = complete.duplicate(tmp_path / "copy")
    path = save(make_more(80, 1), tmp_path / "a.npz")

    run = copy.start("run", "--seed", "5", "--json")
    added = copy.start("dataset", "add", "--dataset", NAME, str(path)).wait()
    ended = run.wait()

    assert (added.status, ended.status) == (0, 0), ended.log
    assert check(copy) == 2
    assert copy.run("--seed", "5").executed <= {
        *("ingest", "validate", "normalize", "report"),
        *("train mlp", "train cnn", "evaluate mlp", "evaluate cnn"),
        *("convert mlp", "convert cnn"),
    }
    assert "ingest" not in copy.run("--seed", "5").executed
