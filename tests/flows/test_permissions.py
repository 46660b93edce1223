"""Who can read and write what the commands leave behind."""

import stat
from pathlib import Path

import numpy as np
import pytest

from digits.settings import Settings
from tests.flows.conftest import FinishedRun
from tests.support.commands import run_digits
from tests.support.handwriting import make_more
from tests.support.small_dataset import NAME


def all_below(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in (folder, *folder.rglob("*"))]


def test_only_the_owner_can_read_what_a_run_writes(first_run: FinishedRun) -> None:
    paths = all_below(first_run.settings.artifacts_dir, first_run.settings.prepared_dir)

    too_open = [path for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077]

    assert len(paths) > 50
    assert [path for path in too_open if not path.is_symlink()] == []


@pytest.mark.slow
def test_a_group_can_go_on_with_what_one_of_it_wrote_in_shared_folders(
    small_dataset: Settings, tmp_path: Path
) -> None:
    images, labels = make_more(60, 1)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels)
    small_dataset.artifacts_dir.mkdir()
    shared = (small_dataset.artifacts_dir, small_dataset.data_dir)
    before = set(all_below(*shared))
    for folder in shared:
        folder.chmod(0o2770)

    added = run_digits(small_dataset, "dataset", "add", "--dataset", NAME, str(tmp_path / "a.npz"))

    assert added.returncode == 0, added.stderr
    new = set(all_below(*shared)) - before
    assert {path.name for path in new} >= {f"{NAME}.jsonl", f"{NAME}.lock", "images.parquet"}
    for path in new:
        wanted = 0o2770 if path.is_dir() else 0o660
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
