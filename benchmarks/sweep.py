"""Times a sweep of twenty trainings with one, two and four at once, in threads and on Ray.

Usage: python -m benchmarks.sweep [--trainings 20] [--workers 1,2,4] [--rounds 3] [--epochs 2]
Uses the real MNIST. Each sweep begins in a workspace of its own, whose data are prepared and in
which nothing is trained. Sweeps alternate; results are medians. A last sweep, in the workspace of
the one before, finds all of its trainings in the cache. Ray needs `make ray`.
"""

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.workspaces import DIGITS, Timed, fresh_workspace, timed


def sweep(
    environment: Mapping[str, str], place: str, workers: int, *rest: str
) -> tuple[Timed, int]:
    """Run a sweep; return how long it took, and how many trainings it executed."""
    where = ("--on", place, "--parallel", str(workers))
    command = (*DIGITS, "sweep", "--models", "mlp", "--recipes", "fast", *where, *rest, "--json")
    done = timed(command, environment)
    trainings = json.loads(done.output)["trainings"]
    return done, sum(not training["is_cached"] for training in trainings)


def copied(root: Path, number: int) -> dict[str, str]:
    """Copy the prepared workspace; return the copy's environment."""
    copy = Path(shutil.copytree(root / "prepared", root / str(number)))
    return {
        "DIGITS_DATA_DIR": str(copy / "data"),
        "DIGITS_ARTIFACTS_DIR": str(copy / "artifacts"),
        "PREFECT_HOME": str(copy / "prefect"),
    }


def print_row(place: str, workers: int, times: list[float], num_trainings: int) -> None:
    middle, low, high = statistics.median(times), min(times), max(times)
    each = middle / num_trainings
    print(f"| {place} | {workers} | {middle:.1f} ({low:.1f} to {high:.1f}) | {each:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    places = ["threads", *(["ray"] if importlib.util.find_spec("ray") else [])]
    kinds = list(itertools.product(places, map(int, options.workers.split(","))))
    times: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    work = ("--seeds", f"1-{options.trainings}", "--epochs", str(options.epochs))
    print(f"{options.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepared = fresh_workspace(root / "prepared")
        # Prepares the data, and makes Ray compile what it imports.
        for place in places:
            sweep(prepared, place, 1, "--seeds", "0", "--epochs", "1")
        for number, (place, workers) in enumerate(kinds * options.rounds):
            own = {**prepared, **copied(root, number)}
            done, executed = sweep(own, place, workers, *work)
            assert executed == options.trainings, f"{executed} trainings executed"
            times[place, workers].append(done.wall)
        again, executed = sweep(own, place, workers, *work)
        assert not executed, f"{executed} trainings executed although nothing changed"
    print("| place | at once | wall s (range) | s a training |\n|---|---:|---:|---:|")
    for kind in kinds:
        print_row(*kind, times[kind], options.trainings)
    print(f"\nThe same sweep again, from the cache: {again.wall:.1f} s.")


if __name__ == "__main__":
    main()
