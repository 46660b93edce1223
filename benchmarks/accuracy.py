"""Measures the accuracy of a recipe's models over several seeds.

Usage: python -m benchmarks.accuracy [--recipe best] [--models mlp,cnn] [--seeds 0,1,2,3,4]
           [--epochs N] [--held-out] [--set '{"learning_rate": 0.002}'] [--log FILE]
With `--held-out` the training set is split into 50,000 images to train on and 10,000 to score on:
this is how recipes were chosen. Without it, the model of the last epoch is scored on the test set,
once per seed. `--set` tries settings that no recipe has. Each result is one line in the log.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.prepared import Prepared, held_out, prepare
from digits.models import TrainingSettings
from digits.progress import Progress
from digits.recipes import training_settings
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.checkpoints import Checkpoint
from digits.training.devices import configure_backend, resolve_device
from digits.training.precisions import fastest_precision
from flows.environment import prepare_environment


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


def train(arrays: Prepared, model: str, settings: TrainingSettings, folder: Path) -> dict[str, Any]:
    """Train in `folder` or resume there; returns the last epoch's figures and the seconds taken."""
    from digits.models import MODELS
    from digits.training.trainer import train_model

    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(f"{model}, seed {settings.seed}")
    _, seconds = train_model(
        arrays.folder,
        arrays.facts,
        MODELS[model].build,
        settings,
        checkpoint=Checkpoint(folder / "checkpoint"),
        progress=clock,
        output=folder,
    )
    epochs = json.loads((folder / "history.json").read_text())["epochs"]
    curve = [epoch["val_accuracy"] for epoch in epochs]
    return {**epochs[-1], "curve": curve, "clock": clock.epochs, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="best")
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--set", type=json.loads, default={}, dest="changes")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--folder", type=Path, help="keep checkpoints here, to resume later")
    options = parser.parse_args()
    prepare_environment(Settings())
    device = resolve_device("auto")
    configure_backend(device)
    fastest = fastest_precision(device).precision
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        arrays = prepare(current_workspace())
        if options.held_out:
            arrays = held_out(arrays, Path(temporary) / "held-out")
        measured_on = "10,000 held-out training images" if options.held_out else "the test set"
        print(f"{options.recipe} {options.changes}, on {measured_on}, {device}", flush=True)
        print("\n| model | seed | accuracy | loss | s/epoch |\n|---|---:|---:|---:|---:|")
        for model in options.models.split(","):
            accuracies = []
            for seed in map(int, options.seeds.split(",")):
                settings = TrainingSettings.model_validate(
                    training_settings(
                        options.recipe, model, epochs=options.epochs, seed=seed, fastest=fastest
                    ).model_dump()
                    | options.changes
                )
                found = train(arrays, model, settings, folder / f"{model}-{seed}")
                accuracies.append(found["val_accuracy"])
                print(
                    f"| {model} | {seed} | {found['val_accuracy']:.2%} | {found['val_loss']:.4f} | "
                    f"{found['seconds'] / settings.epochs:.1f} |",
                    flush=True,
                )
                if options.log:
                    line = {
                        "model": model,
                        "held_out": options.held_out,
                        "settings": settings.model_dump(mode="json"),
                        "load": os.getloadavg()[0],
                        "time": time.strftime("%H:%M"),
                        **found,
                    }
                    with options.log.open("a") as log:
                        log.write(json.dumps(line) + "\n")
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
            print(
                f"| {model} | mean of {len(accuracies)} | {statistics.mean(accuracies):.3%} "
                f"(sd {spread:.3%}) | | |",
                flush=True,
            )


if __name__ == "__main__":
    main()
