"""Measures how much faster ONNX Runtime labels than `model.predict` with its defaults.

Usage: python -m benchmarks.scoring [--images 100000] [--rounds 5] [--reference]
Both get the same images as bytes and must give the same labels. Runs alternate; results are
medians. CPU time is also shown because it varies less on a busy machine. `--reference` times both
reference models, untrained, instead of the champion: speed does not depend on the weights.
"""

import argparse
import contextlib
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.datasets.images import read_split
from digits.inference.onnx_models import OnnxModel
from digits.registry.champion import dataset_folder, load_keras_champion
from digits.registry.onnx_files import write_onnx
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from flows.environment import prepare_environment

Images = npt.NDArray[np.uint8]
Answers = npt.NDArray[np.float32]
Method = Callable[[Images], Answers]


def by_predict(model: object) -> Method:
    """Score with `model.predict` as scripts do: floats as input, batch size 32, progress bar."""

    def score(images: Images) -> Answers:
        with contextlib.redirect_stdout(io.StringIO()):
            return model.predict(images[..., None].astype("float32") / np.float32(255))  # type: ignore[attr-defined,no-any-return]

    return score


def by_onnx(model: object, batch_size: int, threads: int) -> Method:
    """Score as `digits predict` does: bytes as input, ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        content = path.read_bytes()
    session = OnnxModel(content, name="model", digest="", accuracy=0, threads=threads)

    def score(images: Images) -> Answers:
        starts = range(0, len(images), batch_size)
        return np.concatenate([session.predict(images[n : n + batch_size]) for n in starts])

    return score


def compare(model: object, images: Images, rounds: int, batch_sizes: Iterable[int]) -> None:
    """Print a row for each method."""
    methods = {"model.predict": by_predict(model)}
    for size, threads in itertools.product(batch_sizes, {1, os.cpu_count() or 1}):
        name = f"digits, batch size {size}, {threads} threads"
        methods[name] = by_onnx(model, size, threads)
    walls: dict[str, list[float]] = {name: [] for name in methods}
    processor: dict[str, list[float]] = {name: [] for name in methods}
    expected = methods["model.predict"](images[:1000])
    for name, method in methods.items():
        found = method(images[:1000])
        same = (found.argmax(1) == expected.argmax(1)).all()
        assert same, f"{name} gives different labels"
        assert np.abs(found - expected).max() < 1e-5, f"{name} gives different probabilities"
    for _ in range(rounds):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            method(images)
            walls[name].append(time.perf_counter() - wall)
            processor[name].append(time.process_time() - cpu)
    base = [statistics.median(times["model.predict"]) for times in (walls, processor)]
    for name in methods:
        wall, cpu = (statistics.median(times[name]) for times in (walls, processor))
        low, high = min(walls[name]), max(walls[name])
        print(
            f"| {name} | {wall / len(images) * 1e6:.1f} ({low / len(images) * 1e6:.1f} to "
            f"{high / len(images) * 1e6:.1f}) | {base[0] / wall:.2f} | "
            f"{cpu / len(images) * 1e6:.1f} | {base[1] / cpu:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--reference", action="store_true")
    options = parser.parse_args()
    prepare_environment(Settings())
    device = resolve_device("auto")
    configure_backend(device)
    from digits.models import MODELS
    from digits.recipes import training_settings

    workspace = current_workspace()
    champion = load_keras_champion(options.dataset, workspace)
    layout = champion.layout
    data = dataset_folder(champion.version, workspace) / "test.parquet"
    images = np.resize(read_split(data, layout)[0], (options.images, *layout.image_shape))
    models = {champion.version.model.model: champion.model}
    if options.reference:
        models = {
            name: model.build(
                (*layout.image_shape, 1),
                layout.num_classes,
                training_settings("reference", name).dropout,
                0,
            )
            for name, model in MODELS.items()
        }
    print(f"{options.images:,} images, {options.rounds} rounds, {os.cpu_count()} cores, {device}")
    for name, model in models.items():
        print(f"\n| {name} | wall us/image (range) | speedup | CPU us/image | speedup |")
        print("|---|---:|---:|---:|---:|")
        compare(model, images, options.rounds, options.batch_sizes)


if __name__ == "__main__":
    main()
