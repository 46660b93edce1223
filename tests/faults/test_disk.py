"""A full disk: one line says so, nothing partial is kept, and with space the next run works."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import invariants
from tests.faults.commands import Ended
from tests.faults.conftest import Tally
from tests.faults.preludes import LargestFile
from tests.faults.project import Copy
from tests.support.handwriting import make_splits
from tests.support.small_dataset import write_small_dataset

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

OPTIONS = ("--models", "mlp")


@dataclass(frozen=True)
class Roomy:
    """A run with enough disk space: its starting point, its results, and the bytes it writes."""

    begin: Copy
    results: dict[str, set[str]]
    num_bytes: int


@pytest.fixture(scope="module")
def roomy(complete: Copy, tmp_path_factory: pytest.TempPathFactory) -> Roomy:
    """A run with a champion and changed data, so that all steps are executed."""
    folder = tmp_path_factory.mktemp("roomy")
    begin = complete.duplicate(folder / "begin")
    splits = make_splits()
    splits["train"][0][0, 5, 5] ^= 255
    write_small_dataset(begin.settings, splits)
    copy = begin.duplicate(folder / "end")
    run = copy.run(*OPTIONS)
    assert run.executed == run.steps
    num_bytes = size(copy.folder) - size(begin.folder)
    return Roomy(begin, invariants.results(copy.settings), num_bytes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system that the test can resize."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def resize(disk: Path, num_bytes: int) -> None:
    options = f"remount,size={num_bytes}"
    subprocess.run(["mount", "-o", options, disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("share", [tenth / 10 for tenth in range(10)])
def test_full_disk_ends_a_run_in_one_line_and_with_free_space_the_next_one_works(
    share: float, roomy: Roomy, small_disk: Path, tmp_path: Path, tally: Tally
) -> None:
    with tally.attempt("full disk"):
        copy = roomy.begin.duplicate(tmp_path / "copy", small_disk / "work")
        resize(small_disk, used(small_disk) + int(share * roomy.num_bytes))
        check_refused(copy.call("run", *OPTIONS), copy, "No space left on device")
        resize(small_disk, 2**30)
        check_completed(copy, roomy)


@pytest.mark.slow
@pytest.mark.parametrize("num_bytes", [5_000, 20_000, 100_000, 300_000, 500_000])
def test_file_size_limit_ends_a_run_in_one_line_and_the_next_one_works(
    num_bytes: int, roomy: Roomy, tmp_path: Path, tally: Tally
) -> None:
    with tally.attempt("full disk"):
        copy = roomy.begin.duplicate(tmp_path / "copy")
        check_refused(
            copy.call("run", *OPTIONS, prelude=LargestFile(num_bytes)), copy, "File too large"
        )
        check_completed(copy, roomy)


def check_refused(ended: Ended, copy: Copy, reason: str) -> None:
    """Assert that a run failed with one line and left everything intact."""
    assert ended.status == 1
    last = ended.log.splitlines()[-1]
    assert last.startswith("Error: ")
    assert reason in last
    assert str(copy.folder) in last
    assert "Traceback" not in ended.log
    invariants.check(copy.settings)
    assert not invariants.leftovers(copy.settings)


def check_completed(copy: Copy, roomy: Roomy) -> None:
    """Assert that a run now completes the work."""
    copy.run(*OPTIONS)
    invariants.check(copy.settings)
    assert invariants.results(copy.settings) == roomy.results


def size(folder: Path) -> int:
    """Return the space that a folder's files take, in full pages as on tmpfs."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
