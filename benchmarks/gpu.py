"""Measures training on a GPU: what the chip allows, every recipe, and the time to 99%.

Usage: python -m benchmarks.gpu [--seeds 0] [--recipes reference,fast,quick,best]
           [--device cpu] [--epochs N] [--images N]
`make bench-gpu` adds the CUDA libraries if there is a GPU, and runs it. The rate of a matrix
product is what the chip allows; the last column is the share of it that the layers' arithmetic
reaches in an epoch after the first, which also compiles. Without a GPU,
`--device cpu --epochs 1 --images 600` tries the script.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.prepared import Prepared, first_images, prepare
from benchmarks.timed_training import train
from benchmarks.training_speed import MFLOP, product_rate
from digits.errors import UsageError
from digits.models import TrainingSettings
from digits.recipes import training_settings
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from digits.training.hardware import describe_hardware
from digits.training.precisions import fastest_precision
from flows.environment import prepare_environment

# Large enough for the chip to be the limit, and small enough for a CPU to finish.
PRODUCT_SIZE = {"gpu": 8192, "cpu": 1024}
ACCURACY = 0.99


def epoch_seconds(found: dict[str, Any]) -> float:
    """Return the median seconds of an epoch after the first, if there is one."""
    ends = found["clock"]
    later = [end - begun for begun, end in itertools.pairwise(ends)]
    return float(statistics.median(later or ends))


def seconds_to(accuracy: float, found: dict[str, Any]) -> float | None:
    """Return the seconds of training to the first epoch that reaches an accuracy."""
    pairs = zip(found["curve"], found["clock"], strict=True)
    return next((float(seconds) for reached, seconds in pairs if reached >= accuracy), None)


def measure(arrays: Prepared, model: str, settings: TrainingSettings) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return train(arrays, model, settings, Path(folder))


def compare_recipes(
    arrays: Prepared, recipes: Sequence[str], options: argparse.Namespace, device: str
) -> None:
    """Print a row for each recipe, model and seed."""
    size = PRODUCT_SIZE[device[:3]]
    rates = {name: product_rate(name, size) for name in ("float32", "bfloat16")}
    print(
        f"A matrix product of {size} by {size}: {rates['float32'] / 1e3:.1f} TFLOP/s in float32 "
        f"(TF32 where the chip has it), {rates['bfloat16'] / 1e3:.1f} in bfloat16\n\n"
        "| recipe | model | precision | seed | accuracy | s | s to 99% | s/epoch | us/image | "
        "of the product's rate |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    fastest = fastest_precision(device).precision
    for recipe in recipes:
        for model in options.models.split(","):
            for seed in map(int, options.seeds.split(",")):
                settings = training_settings(
                    recipe, model, epochs=options.epochs, seed=seed, fastest=fastest
                )
                found = measure(arrays, model, settings)
                epoch, to_99 = epoch_seconds(found), seconds_to(ACCURACY, found)
                image = epoch / arrays.facts.num_train * 1e6
                limit = MFLOP[model] / rates[settings.precision.removeprefix("mixed_")] * 1e3
                print(
                    f"| {recipe} | {model} | {settings.precision} | {seed} | "
                    f"{found['val_accuracy']:.2%} | {found['seconds']:.1f} | "
                    f"{'' if to_99 is None else f'{to_99:.1f}'} | {epoch:.2f} | {image:.1f} | "
                    f"{limit / image:.1%} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default="reference,fast,quick,best")
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, help="instead of each recipe's")
    parser.add_argument("--images", type=int, help="train and score on the first ones only")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    options = parser.parse_args()
    prepare_environment(Settings())
    try:
        device = resolve_device(options.device)
    except UsageError as error:
        sys.exit(f"{error}; without a GPU, ARGS='--device cpu --epochs 1 --images 600' tries it")
    configure_backend(device)
    facts = describe_hardware() | {"device": device}
    print(time.strftime("%Y-%m-%d %H:%M"))
    for name in ("device", "backend", "processor", "variables"):
        print(f"{name}: {facts[name] or 'none'}")
    print("precision: {0.precision}; {0.reason}\n".format(fastest_precision(device)))
    with tempfile.TemporaryDirectory() as folder:
        arrays = prepare(current_workspace())
        if options.images:
            arrays = first_images(arrays, options.images, Path(folder))
        compare_recipes(arrays, options.recipes.split(","), options, device)


if __name__ == "__main__":
    main()
