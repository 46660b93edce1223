"""Measures how long the CNN trains to reach 99% on the test set, against the plain script.

Usage: python -m benchmarks.time_to_99 [--seeds 0,1,2] [--plain-seeds 0] [--accuracy 0.99]
Seconds from the first minibatch to the end of the first epoch that reaches the accuracy, including
scoring but not imports or reading the data. `quick` trains for the epochs of its recipe.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.prepared import prepare
from benchmarks.timed_training import train
from benchmarks.workspaces import timed
from digits.recipes import training_settings
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from digits.training.precisions import fastest_precision
from flows.environment import prepare_environment


def by_quick(accuracy: float, seed: int) -> float | None:
    fastest = fastest_precision(resolve_device("auto")).precision
    with tempfile.TemporaryDirectory() as folder:
        settings = training_settings("quick", "cnn", seed=seed, fastest=fastest)
        found = train(prepare(current_workspace()), "cnn", settings, Path(folder))
    for reached, seconds in zip(found["curve"], found["clock"], strict=True):
        if reached >= accuracy:
            return float(seconds)
    return None


def by_plain_script(accuracy: float, seed: int) -> float | None:
    raw = Settings().raw_dir / "mnist"
    options = ("--models", "cnn", "--epochs", "20", "--stop-at", str(accuracy), "--seed", str(seed))
    command = (sys.executable, "-m", "benchmarks.plain_script", "--raw", str(raw), *options)
    facts = json.loads(timed(command, os.environ).output.splitlines()[-1])
    seconds: float | None = facts["cnn"]["seconds_to_accuracy"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--plain-seeds", default="0")
    parser.add_argument("--accuracy", type=float, default=0.99)
    options = parser.parse_args()
    prepare_environment(Settings())
    configure_backend(resolve_device("auto"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(f"| | seed | s to {options.accuracy:.1%} |\n|---|---:|---:|")
    found: dict[str, list[float]] = {}
    for name, method, seeds in (
        ("plain script", by_plain_script, options.plain_seeds),
        ("quick", by_quick, options.seeds),
    ):
        for seed in map(int, seeds.split(",")):
            seconds = method(options.accuracy, seed)
            print(f"| {name} | {seed} | {seconds or float('nan'):.1f} |", flush=True)
            found.setdefault(name, []).append(float("inf") if seconds is None else seconds)
    plain, quick = (statistics.median(found[name]) for name in ("plain script", "quick"))
    print(f"\n{quick / plain:.2f} of the plain script's time")


if __name__ == "__main__":
    main()
