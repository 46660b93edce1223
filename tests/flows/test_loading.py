"""Which libraries are loaded while a run's own server starts."""

import subprocess

import pytest

from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.flows.conftest import FinishedRun
from tests.support.commands import run_digits
from tests.support.small_dataset import NAME

LIBRARIES = ("great_expectations", "tensorflow")
# Loads ahead for a request, and prints which libraries that imported.
LOAD = f"""
import sys
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from flows.environment import prepare_environment
from flows.loading import load_ahead
from flows.pipeline import Request
prepare_environment(Settings())
models, seed = sys.argv[1].split(","), int(sys.argv[2])
options = dict(models=models, recipe="reference", epochs=1, seed=seed, device="cpu")
load_ahead(Request.of("{NAME}", settings=Settings(), **options), current_workspace())
print(*(name for name in {LIBRARIES} if name in sys.modules))
"""


def loaded(settings: Settings, models: str, seed: int = 0) -> list[str]:
    result: subprocess.CompletedProcess[str] = run_digits(settings, models, str(seed), code=LOAD)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.slow
def test_a_first_run_loads_all(here: Settings) -> None:
    assert loaded(here, "mlp,cnn") == [*LIBRARIES]


def test_an_unchanged_run_loads_nothing(first_run: FinishedRun) -> None:
    assert loaded(first_run.settings, "mlp,cnn") == []


@pytest.mark.slow
def test_another_training_loads_only_the_training_library(finished: Workspace) -> None:
    assert loaded(finished.settings, "cnn", seed=1) == ["tensorflow"]
