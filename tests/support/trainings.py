"""Trainings on the small dataset, as in the train step, in this process or in another."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from digits.datasets.ingestion import ingest_dataset
from digits.datasets.normalization import store_arrays
from digits.datasets.sources.content import content_of
from digits.models import TrainingSettings
from digits.progress import Progress
from digits.recipes import training_settings
from digits.settings import ROOT, Settings
from digits.spec import load_spec
from digits.storage.references import ArraysRef
from digits.storage.workspace import Workspace
from digits.training.checkpoints import Checkpoint
from digits.training.devices import configure_backend
from tests.support.small_dataset import NAME, write_small_dataset


@dataclass(frozen=True)
class Arrays:
    """The prepared small dataset: its folder of arrays and their reference."""

    folder: Path
    facts: ArraysRef


def prepare_arrays(root: Path) -> Arrays:
    """Ingest and normalize the small dataset in a workspace below `root`."""
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    write_small_dataset(settings)
    workspace = Workspace(settings)
    spec = load_spec(NAME, settings)
    dataset = ingest_dataset(
        spec.layout, content_of(spec, settings), spec.read_options, spec, workspace
    )
    facts = store_arrays(dataset, workspace.store)
    return Arrays(workspace.store.folder(facts), facts)


class Watched(Progress):
    """Records the progress that a training reports; subclasses intervene in the middle."""

    def __init__(self) -> None:
        super().__init__("watched")
        self.begun: tuple[int, int, int] | None = None
        self.batches: list[tuple[int, int]] = []
        self.epochs: list[int] = []

    def begin(self, num_epochs: int, num_batches: int, epoch: int) -> None:
        self.begun = (num_epochs, num_batches, epoch)

    def advance(self, epoch: int, batch: int) -> None:
        self.batches.append((epoch, batch))
        self.on_batch(epoch, batch)

    def finish_epoch(self, figures: Mapping[str, Any]) -> None:
        self.epochs.append(figures["epoch"])

    def on_batch(self, epoch: int, batch: int) -> None:
        """React after `batch` minibatches of the epoch that follows `epoch` complete ones."""


class Interrupting(Watched):
    """Ends the training as Ctrl-C does, in the epoch after `epochs` complete ones."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_batch(self, epoch: int, batch: int) -> None:  # noqa: ARG002
        if epoch == self._epochs:
            raise KeyboardInterrupt


class Hanging(Watched):
    """Prints "hanging" and waits forever in the epoch after `epochs` complete ones."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_batch(self, epoch: int, batch: int) -> None:  # noqa: ARG002
        if epoch == self._epochs:
            sys.stdout.write("hanging\n")
            sys.stdout.flush()
            sys.stdin.read()


@dataclass(frozen=True)
class Training:
    """A training and its folder: `output` has its results, `checkpoint` its progress."""

    arrays: Arrays
    folder: Path
    model: str
    settings: TrainingSettings

    @classmethod
    def of(
        cls, arrays: Arrays, folder: Path, model: str, recipe: str = "reference", **changes: Any
    ) -> Self:
        """Make a training of three epochs with a recipe's settings, updated by `changes`."""
        settings = training_settings(recipe, model, epochs=3).model_dump()
        return cls(arrays, folder, model, TrainingSettings.model_validate(settings | changes))

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.folder / "checkpoint")

    @property
    def archive(self) -> Path:
        """The path of the trained model."""
        return self.folder / "output" / "model.keras"

    @property
    def output(self) -> dict[str, bytes]:
        """The content of the output files, by name."""
        paths = sorted((self.folder / "output").iterdir())
        return {path.name: path.read_bytes() for path in paths}

    @property
    def curve(self) -> list[dict[str, float]]:
        """The learning curve, one entry per epoch."""
        history: dict[str, list[dict[str, float]]] = json.loads(self.output["history.json"])
        return history["epochs"]

    def run(self, progress: Watched | None = None, build: Any = None) -> float:
        """Train, resuming from the checkpoint if there is one; returns the reported seconds."""
        configure_backend("cpu")
        from digits.models import MODELS
        from digits.training.trainer import train_model

        output = self.folder / "output"
        output.mkdir(parents=True, exist_ok=True)
        _, seconds = train_model(
            self.arrays.folder,
            self.arrays.facts,
            build or MODELS[self.model].build,
            self.settings,
            checkpoint=self.checkpoint,
            progress=progress or Watched(),
            output=output,
        )
        return seconds


def start_python(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a separate Python process with this checkout's code."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
