"""Compares a cold retrain of both models with the plain script: wall time and accuracy.

Usage: python -m benchmarks.retrain [--seeds 0,1,2,3,4] [--recipe fast] [--epochs 10]
Both start with MNIST's raw files on this machine and end with both models scored. `digits run` also
validates the data, writes the report, decides about the champion, and starts a Prefect server.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.workspaces import DIGITS, Timed, fresh_workspace, timed
from digits.training.processors import processor
from digits.training.variables import keyed_variables


def accuracies(name: str, output: str) -> dict[str, float]:
    facts = json.loads(output.splitlines()[-1] if name == "plain script" else output)
    if name == "plain script":
        return {model: facts[model]["accuracy"] for model in ("mlp", "cnn")}
    return {score["model"]: score["accuracy"] for score in facts["models"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    times: dict[str, list[Timed]] = {"plain script": [], f"digits run, {options.recipe}": []}
    limits = keyed_variables() or "no variables"
    print(f"{options.epochs} epochs, {processor()}, {limits}, load {os.getloadavg()[0]:.1f}\n")
    print("| | seed | wall s | CPU s | mlp | cnn |\n|---|---:|---:|---:|---:|---:|")
    for seed in map(int, options.seeds.split(",")):
        for name, found in times.items():
            with tempfile.TemporaryDirectory() as root:
                environment = fresh_workspace(Path(root))
                common = ("--epochs", str(options.epochs), "--seed", str(seed))
                raw = ("--raw", f"{root}/data/raw/mnist")
                command = (
                    (sys.executable, "-m", "benchmarks.plain_script", *raw, *common)
                    if name == "plain script"
                    else (*DIGITS, "run", "--recipe", options.recipe, "--json", *common)
                )
                found.append(timed(command, environment))
            reached = accuracies(name, found[-1].output)
            print(
                f"| {name} | {seed} | {found[-1].wall:.1f} | {found[-1].processor:.1f} | "
                f"{reached['mlp']:.2%} | {reached['cnn']:.2%} |",
                flush=True,
            )
    plain, ours = (statistics.median(one.wall for one in found) for found in times.values())
    print(f"\n{ours / plain:.2f} of the plain script's wall time")


if __name__ == "__main__":
    main()
