"""The steps as a ZenML pipeline: each file is an artifact, and its step's work is steps.py's.

Usage: python zenml_pipeline.py [--load]
The last line is JSON: each step's status. --load brings all artifacts into the folder `loaded`.
"""

# mypy: disable-error-code="untyped-decorator,no-any-return"

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

from steps import STEPS
from zenml import pipeline, step
from zenml.client import Client

# ZenML wants `return a, b` for several outputs.
Evaluation = tuple[Annotated[Path, "predictions"], Annotated[Path, "scores"]]


def computed(name: str, *inputs: Path) -> Any:
    """Run a step of steps.py in a new folder; return a tuple of the outputs' paths."""
    folder, spec = Path(tempfile.mkdtemp()), STEPS[name]
    for file, path in zip(spec.inputs, inputs, strict=True):
        (folder / file).symlink_to(path)
    program = Path(__file__).with_name("steps.py")
    subprocess.run(["python", program, name], cwd=folder, check=True)
    return tuple(folder / file for file in spec.outputs)


@step
def ingest() -> tuple[Annotated[Path, "train"], Annotated[Path, "test"]]:
    train, test = computed("ingest")
    return train, test


@step
def validate(train: Path, test: Path) -> Annotated[Path, "validation"]:
    return computed("validate", train, test)[0]


@step
def normalize(
    train: Path, test: Path, validation: Path
) -> tuple[
    Annotated[Path, "x_train"],
    Annotated[Path, "y_train"],
    Annotated[Path, "x_test"],
    Annotated[Path, "y_test"],
]:
    x_train, y_train, x_test, y_test = computed("normalize", train, test, validation)
    return x_train, y_train, x_test, y_test


@step
def train_mlp(x: Path, y: Path) -> Annotated[Path, "mlp"]:
    return computed("train-mlp", x, y)[0]


@step
def train_cnn(x: Path, y: Path) -> Annotated[Path, "cnn"]:
    return computed("train-cnn", x, y)[0]


@step
def evaluate_mlp(model: Path, x: Path, y: Path) -> Evaluation:
    predictions, scores = computed("evaluate-mlp", model, x, y)
    return predictions, scores


@step
def evaluate_cnn(model: Path, x: Path, y: Path) -> Evaluation:
    predictions, scores = computed("evaluate-cnn", model, x, y)
    return predictions, scores


@step
def promote(mlp: Path, cnn: Path) -> Annotated[Path, "champion"]:
    return computed("promote", mlp, cnn)[0]


@pipeline
def digits() -> None:
    train, test = ingest()
    x_train, y_train, x_test, y_test = normalize(train, test, validate(train, test))
    _, mlp = evaluate_mlp(train_mlp(x_train, y_train), x_test, y_test)
    _, cnn = evaluate_cnn(train_cnn(x_train, y_train), x_test, y_test)
    promote(mlp, cnn)


def main() -> None:
    run = Client().get_pipeline_run(digits().id)
    if "--load" in sys.argv:
        for name, found in run.steps.items():
            folder = Path("loaded") / name
            folder.mkdir(parents=True)
            for output, (artifact,) in found.outputs.items():
                shutil.move(artifact.load(), folder / output)
    print(json.dumps({name: str(found.status) for name, found in run.steps.items()}))


if __name__ == "__main__":
    main()
