"""One complete run on the small dataset, in its own process, shared by the tests that need it."""

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
# One epoch is enough for the mlp to learn the small dataset, but not for the cnn.
REQUEST = (*DATASET, "--epochs", "1", "--device", "cpu")


@dataclass(frozen=True)
class FinishedRun:
    """A workspace after one run, and what the run printed."""

    settings: Settings
    printed: "subprocess.CompletedProcess[str]"

    def copy_to(self, settings: Settings) -> None:
        """Copy the workspace to another place."""
        shutil.copytree(self.settings.data_dir, settings.data_dir)
        shutil.copytree(self.settings.artifacts_dir, settings.artifacts_dir)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The first run in a workspace, with its own server. Tests must not change the workspace."""
    root = tmp_path_factory.mktemp("first_run")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    write_small_dataset(settings)
    printed = run_digits(settings, "run", *REQUEST)
    assert printed.returncode == 0, printed.stderr
    return FinishedRun(settings, printed)


@pytest.fixture
def finished(first_run: FinishedRun, current: Workspace) -> Workspace:
    """A copy of that workspace for this process; its champion is the mlp."""
    first_run.copy_to(current.settings)
    return current


@pytest.fixture
def here(small_dataset: Settings) -> Iterator[Settings]:
    """A workspace for this process with only the small dataset; no server."""
    folders = {
        "DIGITS_DATA_DIR": str(small_dataset.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(small_dataset.artifacts_dir),
    }
    with patch.dict(os.environ, folders):
        yield small_dataset
