"""Measures the accuracy of recipes over several seeds: a sweep, printed as rows for accuracy.md.

Usage: python -m benchmarks.accuracy [--recipes best] [--seeds 0-4] [options of `digits sweep`]
Recipes are chosen with `--held-out`: 50,000 images of MNIST's training set to train on and 10,000
to score on. Without it, the models of the last epoch are scored on the test set, once per seed.
"""

import json
import subprocess
import sys
from typing import Any

# One training at a time, so that the seconds can be compared.
DEFAULTS = ("--recipes", "best", "--seeds", "0-4", "--parallel", "1", "--limit", "1000")


def main() -> None:
    command = [sys.executable, "-m", "flows", "sweep", *DEFAULTS, *sys.argv[1:], "--json"]
    swept = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if swept.stdout:
        print_table(json.loads(swept.stdout))
    sys.exit(swept.returncode)


def print_table(facts: dict[str, Any]) -> None:
    seeds = list(dict.fromkeys(training["seed"] for training in facts["trainings"]))
    print(f"on the {facts['scored_on']}, {facts['device']}\n")
    print(f"| variant | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | s/epoch |")
    print(f"|---|{'---:|' * (len(seeds) + 2)}")
    for variant in facts["variants"]:
        by_seed = {
            training["seed"]: f"{training['accuracy']:.2%}"
            for training in facts["trainings"]
            if (training["dataset"], training["variant"])
            == (variant["dataset"], variant["variant"])
        }
        seconds = variant["seconds"] / variant["settings"]["epochs"]
        cells = [by_seed.get(seed, "") for seed in seeds]
        print(
            f"| {variant['dataset']} {variant['variant']} | {' | '.join(cells)} | "
            f"{variant['mean']:.3%} | {seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
