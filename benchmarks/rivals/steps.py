"""The steps as DVC and ZenML run them: plain functions that read and write files.

Usage: python steps.py STEP | dvc.yaml
Files are in the current folder, and MNIST's raw files in the folder $RAW. The models are those of
plain_script.py, which is beside this file. `dvc.yaml` writes the stages for DVC.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """What a step runs, and the files that it reads and writes."""

    run: Callable[[], None]
    inputs: Sequence[str]
    outputs: Sequence[str]


def ingest() -> None:
    for split in ("train", "test"):
        raw = Path(os.environ["RAW"])
        images = np.frombuffer((raw / f"{split}-images.idx").read_bytes(), np.uint8, offset=16)
        labels = np.frombuffer((raw / f"{split}-labels.idx").read_bytes(), np.uint8, offset=8)
        np.savez_compressed(f"{split}.npz", images=images.reshape(-1, 28, 28, 1), labels=labels)


def validate() -> None:
    counts = {}
    for split in ("train", "test"):
        with np.load(f"{split}.npz") as found:
            assert len(found["images"]) == len(found["labels"])
            assert found["images"].min() == 0
            assert found["images"].max() > 253
            counts[split] = np.bincount(found["labels"], minlength=10).tolist()
    assert all(min(numbers) > 800 for numbers in counts.values())
    Path("validation.json").write_text(json.dumps(counts))


def normalize() -> None:
    for split in ("train", "test"):
        with np.load(f"{split}.npz") as found:
            np.save(f"x_{split}.npy", np.divide(found["images"], np.float32(255)))
            np.save(f"y_{split}.npy", np.eye(10, dtype=np.float32)[found["labels"]])


def train(name: str) -> None:
    import keras
    import plain_script

    keras.utils.set_random_seed(0)
    model = {"mlp": plain_script.mlp, "cnn": plain_script.cnn}[name]()
    model.fit(np.load("x_train.npy"), np.load("y_train.npy"), batch_size=128, verbose=2)
    without_optimizer = keras.models.clone_model(model)
    without_optimizer.set_weights(model.get_weights())
    without_optimizer.save(f"{name}.keras")


def evaluate(name: str) -> None:
    import keras

    probabilities = keras.saving.load_model(f"{name}.keras").predict(np.load("x_test.npy"))
    right = probabilities.argmax(axis=1) == np.load("y_test.npy").argmax(axis=1)
    np.save(f"{name}-predictions.npy", probabilities)
    Path(f"{name}-scores.json").write_text(json.dumps({"accuracy": float(right.mean())}))


def promote() -> None:
    scores = {
        name: json.loads(Path(f"{name}-scores.json").read_text())["accuracy"]
        for name in ("mlp", "cnn")
    }
    champion = max(scores, key=lambda name: scores[name])
    Path("champion.json").write_text(json.dumps({"champion": champion, **scores}))


DATASET, ARRAYS = (
    ("train.npz", "test.npz"),
    ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"),
)
STEPS: Mapping[str, Step] = {
    "ingest": Step(ingest, (), DATASET),
    "validate": Step(validate, DATASET, ("validation.json",)),
    "normalize": Step(normalize, (*DATASET, "validation.json"), ARRAYS),
    **{
        f"train-{name}": Step(partial(train, name), ARRAYS[:2], (f"{name}.keras",))
        for name in ("mlp", "cnn")
    },
    **{
        f"evaluate-{name}": Step(
            partial(evaluate, name),
            (f"{name}.keras", *ARRAYS[2:]),
            (f"{name}-predictions.npy", f"{name}-scores.json"),
        )
        for name in ("mlp", "cnn")
    },
    "promote": Step(promote, ("mlp-scores.json", "cnn-scores.json"), ("champion.json",)),
}


def write_stages() -> None:
    stages = {
        name: {
            "cmd": f"python steps.py {name}",
            "deps": ["steps.py", "plain_script.py", *step.inputs],
            "outs": list(step.outputs),
        }
        for name, step in STEPS.items()
    }
    Path("dvc.yaml").write_text(json.dumps({"stages": stages}))


if __name__ == "__main__":
    write_stages() if sys.argv[1] == "dvc.yaml" else STEPS[sys.argv[1]].run()
