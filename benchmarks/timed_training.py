"""One training with a clock: the seconds to the end of each epoch, beside its accuracy."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.prepared import Prepared
from digits.models import Builder, TrainingSettings
from digits.progress import Progress
from digits.training.checkpoints import Checkpoint


class Clock(Progress):
    """Records the seconds from the first minibatch to the end of each epoch."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.begun, self.epochs = 0.0, list[float]()

    def begin(self, num_epochs: int, num_batches: int, epoch: int) -> None:
        super().begin(num_epochs, num_batches, epoch)
        self.begun = time.monotonic()

    def finish_epoch(self, figures: Mapping[str, Any]) -> None:
        super().finish_epoch(figures)
        self.epochs.append(time.monotonic() - self.begun)


def train(
    arrays: Prepared,
    model: str,
    settings: TrainingSettings,
    folder: Path,
    build: Builder | None = None,
) -> dict[str, Any]:
    """Train in `folder` or resume there; returns the last epoch's figures and the seconds taken.

    `build` replaces the builder of `model`.
    """
    from digits.models import MODELS
    from digits.training.trainer import train_model

    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(f"{model}, seed {settings.seed}")
    parameters, seconds = train_model(
        arrays.folder,
        arrays.facts,
        build or MODELS[model].build,
        settings,
        checkpoint=Checkpoint(folder / "checkpoint"),
        progress=clock,
        output=folder,
    )
    epochs = json.loads((folder / "history.json").read_text())["epochs"]
    curve = [epoch["val_accuracy"] for epoch in epochs]
    return {
        **epochs[-1],
        "curve": curve,
        "clock": clock.epochs,
        "seconds": seconds,
        "parameters": parameters,
    }
