"""One whole run on the small dataset, in a process of its own, for all tests that start from it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.commands import run_digits
from tests.support.small_dataset import NAME, write_small_dataset

DATASET = ("--dataset", NAME)
# In one epoch the mlp learns the small dataset, and the cnn does not.
REQUEST = (*DATASET, "--epochs", "1", "--device", "cpu")


@dataclass(frozen=True)
class FinishedRun:
    """A workspace in which one run was done, and what it printed."""

    settings: Settings
    printed: "subprocess.CompletedProcess[str]"

    def copy_to(self, settings: Settings) -> None:
        """Put the same workspace somewhere else."""
        shutil.copytree(self.settings.data_dir, settings.data_dir)
        shutil.copytree(self.settings.artifacts_dir, settings.artifacts_dir)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The first run in a workspace, on a server of its own. Nothing may be changed in it."""
    root = tmp_path_factory.mktemp("first_run")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    write_small_dataset(settings)
    printed = run_digits(settings, "run", *REQUEST)
    assert printed.returncode == 0, printed.stderr
    return FinishedRun(settings, printed)


@pytest.fixture
def finished(first_run: FinishedRun, current: Workspace) -> Workspace:
    """A copy of that workspace, as this process's own: it has a champion, the mlp."""
    first_run.copy_to(current.settings)
    return current


@pytest.fixture
def here(small_dataset: Settings) -> Iterator[Settings]:
    """A workspace with the small dataset and nothing else as this process's own; no server."""
    folders = {
        "DIGITS_DATA_DIR": str(small_dataset.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(small_dataset.artifacts_dir),
    }
    with patch.dict(os.environ, folders):
        yield small_dataset
