"""Measures what ten times the data costs: each step's time and peak memory, in its own process.

Usage: python -m benchmarks.growth [--times 10] [--models mlp] [--folder FOLDER]
Compares MNIST with a dataset that contains MNIST and nine distorted versions of each image.
Training is one epoch of the reference recipe. Peak memory is the kernel's figure for the process.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.workspaces import fresh_workspace, timed
from digits.datasets.sources.idx import parse_idx
from digits.recipes import HANDS, training_settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.references import ArraysRef, DatasetRef
from digits.storage.workspace import Workspace, current_workspace
from digits.training.distortion import distort

SPEC = """
title = "MNIST, {times} times"
image_shape = [28, 28]
num_classes = 10
floor = 0.5
"""


def write_dataset(folder: Path, name: str, times: int, raw: Path) -> None:
    """Write a spec and IDX files with `times` versions of each MNIST image, the first unchanged."""
    specs = folder / "datasets"
    specs.mkdir(parents=True, exist_ok=True)
    (specs / f"{name}.toml").write_text(SPEC.format(times=times))
    target = folder / "raw" / name
    target.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        images, labels = (
            parse_idx((raw / f"{split}-{kind}.idx").read_bytes(), kind)
            for kind in ("images", "labels")
        )
        write_idx(target / f"{split}-images.idx", versions(images, times), len(images) * times)
        write_idx(target / f"{split}-labels.idx", [labels] * times, len(labels) * times)


def versions(images: np.ndarray, times: int) -> Iterator[np.ndarray]:
    yield images
    for number in range(1, times):
        chance = np.random.default_rng(number)
        changed = distort(images.astype(np.float32) / 255, HANDS, chance)
        yield np.rint(changed * 255).astype(np.uint8)


def write_idx(path: Path, parts: "Iterator[np.ndarray] | list[np.ndarray]", num_rows: int) -> None:
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            if number == 0:
                sizes = (num_rows, *part.shape[1:])
                file.write(bytes([0, 0, 8, len(sizes)]) + np.array(sizes, ">u4").tobytes())
            file.write(part.tobytes())


def ingest(spec: DatasetSpec, workspace: Workspace, folder: Path) -> None:
    from digits.datasets.ingestion import ingest_dataset
    from digits.datasets.sources.content import content_of

    content = content_of(spec, workspace.settings)
    reference = ingest_dataset(spec.layout, content, spec.read_options, spec, workspace)
    (folder / "dataset.json").write_text(reference.model_dump_json())


def validate(spec: DatasetSpec, workspace: Workspace, folder: Path) -> None:
    from digits.validation.dataset_validation import validate_dataset

    dataset = _dataset(folder)
    validate_dataset(workspace.store.folder(dataset), dataset.layout, spec.thresholds, folder)


def normalize(_: DatasetSpec, workspace: Workspace, folder: Path) -> None:
    from digits.datasets.normalization import store_arrays

    reference = store_arrays(_dataset(folder), workspace.store)
    (folder / "arrays.json").write_text(reference.model_dump_json())


def train(_: DatasetSpec, workspace: Workspace, folder: Path, model: str) -> None:
    from digits.progress import Progress
    from digits.training.checkpoints import Checkpoint
    from digits.training.devices import configure_backend

    configure_backend("cpu")
    from digits.models import MODELS
    from digits.training.trainer import train_model

    arrays = _arrays(folder)
    output = folder / model
    output.mkdir(exist_ok=True)
    train_model(
        workspace.store.folder(arrays),
        arrays,
        MODELS[model].build,
        training_settings("reference", model, epochs=1),
        checkpoint=Checkpoint(output / "checkpoint"),
        progress=Progress(model),
        output=output,
    )


def evaluate(_: DatasetSpec, workspace: Workspace, folder: Path, model: str) -> None:
    from digits.training.devices import configure_backend

    configure_backend("cpu")
    from digits.training.evaluation import evaluate_model

    arrays, output = _arrays(folder), folder / model
    evaluate_model(output / "model.keras", workspace.store.folder(arrays), arrays.layout, output)


STEPS = {step.__name__: step for step in (ingest, validate, normalize, train, evaluate)}


def _dataset(folder: Path) -> DatasetRef:
    return DatasetRef.model_validate_json((folder / "dataset.json").read_bytes())


def _arrays(folder: Path) -> ArraysRef:
    return ArraysRef.model_validate_json((folder / "arrays.json").read_bytes())


def run_step(name: str, step: str, folder: Path) -> None:
    """Run one step on one dataset in this process; its output is kept in `folder`."""
    workspace = current_workspace()
    function, *model = step.split("-")
    if function == "write":
        folder.mkdir()
        data = workspace.settings.data_dir
        write_dataset(data, name, int(model[0]), data / "raw" / "mnist")
        return
    STEPS[function](load_spec(name, workspace.settings), workspace, folder, *model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--models", default="mlp")
    parser.add_argument("--folder", type=Path, help="folder for temporary files, on a large disk")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, step, folder = options.step
        run_step(name, step, Path(folder))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = Path(temporary)
        environment = fresh_workspace(root)
        command = (sys.executable, "-m", "benchmarks.growth", "--step")
        # In a process of its own as well: a child process starts with its parent's peak memory.
        for name, times in (("one", 1), ("more", options.times)):
            timed((*command, name, f"write-{times}", str(root / name)), environment)
        models = options.models.split(",")
        steps = [*("ingest", "validate", "normalize")]
        steps += [f"{step}-{model}" for model in models for step in ("train", "evaluate")]
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print(
            f"| step | s | s, {options.times} times the data | ratio | peak MB | "
            f"peak MB, {options.times} times the data | ratio |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|")
        for step in steps:
            one, more = (
                timed((*command, name, step, str(root / name)), environment)
                for name in ("one", "more")
            )
            print(
                f"| {step.replace('-', ' ')} | {one.wall:.1f} | {more.wall:.1f} | "
                f"{more.wall / one.wall:.1f} | {one.peak_mb:.0f} | {more.peak_mb:.0f} | "
                f"{more.peak_mb / one.peak_mb:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
