"""Measures how fast images are labeled, beside other engines and the rate of a matrix product.

Usage: python -m benchmarks.scoring [--images 20000] [--rounds 5] [--reference]
ONNX Runtime (as `digits predict` uses it), TensorFlow, LiteRT and `model.predict` with its defaults
get the same images as bytes and must give the same labels. Runs alternate; results are medians.
The rate is that of a product of 1024 by 1024 matrices of float32 in ONNX Runtime with the same
number of threads, measured before each run. `--reference` times both reference models, untrained,
instead of the champion: speed does not depend on the weights.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.datasets.images import read_split
from digits.inference.onnx_models import OnnxModel
from digits.labeling.labeler import BATCH_SIZE
from digits.registry.champion import dataset_folder, load_keras_champion
from digits.registry.onnx_files import export, write_onnx
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, resolve_device
from flows.environment import prepare_environment

Images = npt.NDArray[np.uint8]
Answers = npt.NDArray[np.float32]
Method = Callable[[Images], Answers]
PRODUCT = 1024
CORES = os.cpu_count() or 1
# Multiplications and additions of a forward pass for one image of MNIST.
FLOP = {
    "mlp": 2 * (784 * 512 + 512 * 128 + 128 * 10),
    "cnn": 2 * (26**2 * 9 * 32 + 24**2 * 9 * 32 * 16 + 2304 * 128 + 128 * 10),
}


@dataclass(frozen=True)
class Engine:
    """A way to score minibatches, and the threads that it may use."""

    name: str
    batch_size: int
    threads: int
    score: Method


def scaled(images: Images) -> Answers:
    """Return pixels float32 (n, H, W, 1) in 0..1."""
    return np.divide(images[..., None], np.float32(255), dtype=np.float32)


def by_predict(model: object) -> Method:
    """Score with `model.predict` as scripts do: floats as input, batch size 32, progress bar."""

    def score(images: Images) -> Answers:
        with contextlib.redirect_stdout(io.StringIO()):
            return model.predict(scaled(images))  # type: ignore[attr-defined,no-any-return]

    return score


def by_tensorflow(model: object) -> Method:
    """Score with a compiled function, the usual way to call a model many times."""
    import tensorflow as tf

    call = tf.function(lambda pixels: model(pixels, training=False))  # type: ignore[operator]
    return lambda images: np.asarray(call(tf.constant(scaled(images))))


def by_onnx(path: Path, threads: int) -> Method:
    """Score as `digits predict` does."""
    return OnnxModel(path.read_bytes(), name="", digest="", accuracy=0, threads=threads).predict


def by_litert(path: Path, batch_size: int, threads: int) -> Method:
    """Score with LiteRT, whose tensors get the minibatch's size once."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(image["index"], [batch_size, *image["shape"][1:]])
    interpreter.allocate_tensors()

    def score(images: Images) -> Answers:
        interpreter.set_tensor(image["index"], scaled(images))
        interpreter.invoke()
        answers: Answers = interpreter.get_tensor(output["index"])
        return answers

    return score


def product_rate(threads: int) -> float:
    """Measure the FLOP/s of a matrix product in ONNX Runtime."""
    import onnx
    from onnx import TensorProto, helper

    def matrix(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [PRODUCT, PRODUCT])

    import onnxruntime

    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph(
        [node], "product", [matrix("left"), matrix("right")], [matrix("product")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    values = np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        session.run(None, {"left": values, "right": values})
        seconds.append(time.perf_counter() - begun)
    return 2 * PRODUCT**3 / min(seconds)


def engines(model: object, folder: Path) -> list[Engine]:
    """Return every way to score a model; LiteRT and TensorFlow with their better minibatches."""
    onnx_file, litert_file = folder / "model.onnx", folder / "model.tflite"
    write_onnx(model, onnx_file)
    export(model, litert_file, "litert")
    every = [Engine("model.predict", 0, CORES, by_predict(model))]
    every += [
        Engine("TensorFlow", size, CORES, by_tensorflow(model)) for size in (BATCH_SIZE, 1024)
    ]
    for threads in sorted({1, CORES}):
        every += [
            Engine("digits (ONNX Runtime)", size, threads, by_onnx(onnx_file, threads))
            for size in (BATCH_SIZE, 128)
        ]
        every.append(
            Engine("LiteRT", BATCH_SIZE, threads, by_litert(litert_file, BATCH_SIZE, threads))
        )
    return every


def whole(engine: Engine, images: Images) -> Answers:
    """Score all images, a minibatch after the other."""
    size = engine.batch_size or len(images)
    starts = range(0, len(images), size)
    return np.concatenate([engine.score(images[first : first + size]) for first in starts])


def compare(name: str, every: list[Engine], images: Images, rounds: int) -> None:
    """Print a row for each engine: time, and its share of the matrix product's rate."""
    some = images[:1024]
    expected = whole(every[0], some).argmax(1)
    for engine in every:
        assert (whole(engine, some).argmax(1) == expected).all(), f"{engine}: other labels"
    walls: Mapping[int, list[float]] = {place: [] for place in range(len(every))}
    processor: Mapping[int, list[float]] = {place: [] for place in range(len(every))}
    shares: Mapping[int, list[float]] = {place: [] for place in range(len(every))}
    for _ in range(rounds):
        for place, engine in enumerate(every):
            rate = product_rate(engine.threads)
            wall, cpu = time.perf_counter(), time.process_time()
            whole(engine, images)
            walls[place].append((time.perf_counter() - wall) / len(images))
            processor[place].append((time.process_time() - cpu) / len(images))
            shares[place].append(FLOP[name] / walls[place][-1] / rate)
    for place, engine in enumerate(every):
        wall, cpu = (statistics.median(times[place]) * 1e6 for times in (walls, processor))
        low, high = min(walls[place]) * 1e6, max(walls[place]) * 1e6
        print(
            f"| {engine.name} | {engine.batch_size or 32} | {engine.threads} | "
            f"{wall:.1f} ({low:.1f} to {high:.1f}) | {cpu:.1f} | "
            f"{statistics.median(shares[place]):.0%} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--images", type=int, default=20_480, help="a multiple of 1024")
    parser.add_argument("--rounds", type=int, default=5)
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
        shape = (*layout.image_shape, 1)
        models = {
            name: model.build(
                shape, layout.num_classes, training_settings("reference", name).dropout, 0
            )
            for name, model in MODELS.items()
        }
    print(f"{options.images:,} images, {options.rounds} rounds, {CORES} cores, {device}")
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            every = engines(model, Path(folder))
            print(
                f"\n| {name} | minibatch | threads | wall us/image (range) | CPU us/image | share |"
            )
            print("|---|---:|---:|---:|---:|---:|")
            compare(name, every, images, options.rounds)


if __name__ == "__main__":
    main()
