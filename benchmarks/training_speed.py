"""Compares the cost of a training step, by the settings that affect it, with the machine's limit.

Usage: python -m benchmarks.training_speed [--models mlp,cnn] [--images 12800] [--rounds 3]
Each setting trains on the same random images. Rounds alternate; results are medians. The limit is
the time that the layers' arithmetic alone would take at the rate of a matrix product in the same
precision. ONEDNN_MAX_CPU_ISA=AVX2 or AVX512_CORE shows a processor without the later instructions;
settings that it cannot compute are left out.
"""

import argparse
import logging
import os
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from digits.errors import UsageError
from digits.models import TrainingSettings
from digits.recipes import training_settings
from digits.settings import Settings
from digits.training.devices import configure_backend, resolve_device
from digits.training.precisions import check_precision
from digits.training.processors import processor
from digits.training.variables import keyed_variables
from flows.environment import prepare_environment

BATCH = 128
# Multiplications and additions for one image, forward and backward: three times those of a forward
# pass, except that the first layer needs no gradient of its input.
MFLOP = {
    "mlp": 2e-6 * (2 * 784 * 512 + 3 * (512 * 128 + 128 * 10)),
    "cnn": 2e-6 * (2 * 26**2 * 9 * 32 + 3 * (24**2 * 9 * 32 * 16 + 2304 * 128 + 128 * 10)),
}
Variants = Mapping[str, Mapping[str, Any]]
VARIANTS: Variants = {
    "reference settings": {},
    "pooled masks": {"masks": "pooled"},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "bfloat16, pooled masks": {"precision": "mixed_bfloat16", "masks": "pooled"},
    "bfloat16, no dropout": {"precision": "mixed_bfloat16", "no dropout": True},
}


def product_rate(precision: str, size: int = 2048) -> float:
    """Measure the GFLOP/s of a matrix product of `size` by `size`, best of five."""
    import keras
    import tensorflow as tf

    values = keras.ops.cast(keras.random.normal((size, size), seed=1), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(values, values)))
    product()
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        product().numpy()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds) / 1e9


def possible_variants(device: str) -> Variants:
    try:
        check_precision("mixed_bfloat16", device)
    except UsageError:
        return {name: v for name, v in VARIANTS.items() if "precision" not in v}
    return VARIANTS


def learner(model: str, variant: Mapping[str, Any], num_images: int) -> Any:
    from digits.models import MODELS
    from digits.training.learner import make_learner

    settings = training_settings("reference", model).model_dump() | dict(variant)
    if settings.pop("no dropout", False):
        settings["dropout"] = [0.0] * len(settings["dropout"])
    checked = TrainingSettings.model_validate(settings)
    plain = MODELS[model].build((28, 28, 1), 10, checked.dropout, checked.seed)
    return make_learner(plain, checked, num_images // BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prepare_environment(Settings())
    device = resolve_device("auto")
    configure_backend(device)
    # TensorFlow warns of retracing in a loop: five learners of a model share one function name.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    generator = np.random.default_rng(0)
    x = generator.random((options.images, 28, 28, 1), np.float32)
    y = generator.integers(10, size=options.images).astype(np.int32)
    variants = possible_variants(device)
    names = ("float32", "bfloat16") if variants is VARIANTS else ("float32",)
    rates = {name: product_rate(name) for name in names}
    product = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    print(
        f"{device}, {processor()}, load {os.getloadavg()[0]:.1f}, "
        f"{keyed_variables() or 'no variables'}; matrix product: {product}"
    )
    for model in options.models.split(","):
        print(f"\n| {model} | wall us/image | CPU us/image | speedup | us/image at the limit |")
        print("|---|---:|---:|---:|---:|")
        learners = {name: learner(model, v, options.images) for name, v in variants.items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for _ in range(options.rounds + 1):
            for name, made in learners.items():
                wall, cpu = time.perf_counter(), time.process_time()
                made.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        base = statistics.median(one[0] for one in times["reference settings"][1:])
        for name in variants:
            wall, cpu = (statistics.median(one[i] for one in times[name][1:]) for i in (0, 1))
            rate = rates["bfloat16" if "bfloat16" in name else "float32"]
            print(
                f"| {name} | {wall / options.images * 1e6:.0f} | "
                f"{cpu / options.images * 1e6:.0f} | {base / wall:.2f} | "
                f"{MFLOP[model] / rate * 1e3:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
