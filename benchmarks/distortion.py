"""Measures how much longer an epoch of the recipe `best` takes because of its distortions.

Usage: python -m benchmarks.distortion [--models mlp,cnn] [--rounds 3]
Epochs with and without distortions alternate; the first of each is dropped, and scoring is not
included. Results are medians.
"""

import argparse
import os
import statistics
import time

from benchmarks.prepared import prepare
from digits.recipes import training_settings
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.arrays import StoredArray
from digits.training.devices import configure_backend, resolve_device
from digits.training.precisions import fastest_precision
from flows.environment import prepare_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prepare_environment(Settings())
    device = resolve_device("auto")
    configure_backend(device)
    from digits.models import MODELS
    from digits.training.learner import make_learner
    from digits.training.training_data import Minibatches, feed

    arrays = prepare(current_workspace())
    x, y = (StoredArray(arrays.folder / f"{name}_train.npy") for name in "xy")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| model | plain s | distorted s | wall ratio | CPU ratio |\n|---|---:|---:|---:|---:|")
    for model in options.models.split(","):
        best = training_settings("best", model, fastest=fastest_precision(device).precision)
        learners = []
        for settings in (best.model_copy(update={"distortion": None}), best):
            plain = MODELS[model].build((28, 28, 1), 10, settings.dropout, settings.seed)
            minibatches = Minibatches(x, y, settings)
            learners.append((make_learner(plain, settings, len(minibatches)), minibatches))
        times: list[list[tuple[float, float]]] = [[], []]
        for _ in range(options.rounds + 1):
            for (learner, minibatches), found in zip(learners, times, strict=True):
                wall, processor = time.perf_counter(), time.process_time()
                learner.fit(feed(minibatches), shuffle=False, verbose=0)
                found.append((time.perf_counter() - wall, time.process_time() - processor))
        (plain_s, plain_cpu), (distorted_s, distorted_cpu) = (
            [statistics.median(one[kind] for one in found[1:]) for kind in (0, 1)]
            for found in times
        )
        print(
            f"| {model} | {plain_s:.1f} | {distorted_s:.1f} | {distorted_s / plain_s:.2f} | "
            f"{distorted_cpu / plain_cpu:.2f} |",
            flush=True,
        )
        for _, minibatches in learners:
            minibatches.close()


if __name__ == "__main__":
    main()
