"""Measures what more capacity would give the CNN: the same layers, some times as wide.

Usage: python -m benchmarks.capacity [--widths 1,2,4] [--seeds 0] [--epochs 10]
By the recipe `best`, with fewer epochs unless told otherwise. The models are trained on 50,000
images of MNIST's training set and scored on the other 10,000, which are not distorted; the training
accuracy is that on the distorted images of the last epoch.
"""

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.prepared import Prepared, prepare
from benchmarks.timed_training import train
from digits.datasets.holding_out import hold_out
from digits.models import Builder
from digits.recipes import training_settings
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from digits.training.precisions import fastest_precision
from digits.training.processors import processor
from flows.environment import prepare_environment


def wider(factor: int) -> Builder:
    """Return a builder of the CNN with `factor` times the filters and hidden units."""
    from keras import Input, Model, Sequential, layers

    from digits.training.models.layers import convolution, dense, layer_seeds

    def build(
        image_shape: tuple[int, ...], num_classes: int, dropout: tuple[float, ...], seed: int
    ) -> Model:
        seeds = layer_seeds(seed)
        rates = iter(dropout)

        def drop(name: str) -> layers.Dropout:
            return layers.Dropout(next(rates), seed=next(seeds), name=name)

        return Sequential(
            [
                Input(image_shape, name="image"),
                convolution(32 * factor, "convolution_1", seeds),
                drop("dropout_1"),
                convolution(16 * factor, "convolution_2", seeds),
                layers.MaxPooling2D(2, name="pooling"),
                drop("dropout_2"),
                layers.Flatten(name="flatten"),
                dense(128 * factor, "relu", "hidden", seeds),
                drop("dropout_3"),
                dense(num_classes, "softmax", "probabilities", seeds),
            ],
            name="cnn",
        )

    return build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", default="1,2,4")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    prepare_environment(Settings())
    device = resolve_device("auto")
    configure_backend(device)
    fastest = fastest_precision(device).precision
    workspace = current_workspace()
    facts = hold_out(prepare(workspace).facts, workspace.store)
    arrays = Prepared(workspace.store.folder(facts), facts)
    print(f"{options.epochs} epochs, {processor()}, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| width | parameters | seed | held out | training | s |\n|---:|---:|---:|---:|---:|---:|"
    )
    for width in map(int, options.widths.split(",")):
        for seed in map(int, options.seeds.split(",")):
            settings = training_settings(
                "best", "cnn", epochs=options.epochs, seed=seed, fastest=fastest
            )
            with tempfile.TemporaryDirectory() as folder:
                found = train(arrays, "cnn", settings, Path(folder), wider(width))
            print(
                f"| {width} | {found['parameters']:,} | {seed} | {found['val_accuracy']:.2%} | "
                f"{found['accuracy']:.2%} | {found['seconds']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
