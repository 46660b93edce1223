"""How a model is written in each format, and read again with the library that its users have."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digits.registry.champion import KerasChampion
from digits.registry.label_checks import Predict
from digits.registry.onnx_files import INPUT, OUTPUT, export, read_onnx, write_onnx
from digits.training.evaluation import load_model

# Keys of a layer's configuration that Keras 3.15 writes and older versions refuse. None is the
# default, so that a layer without the key is the same.
NEWER_KEYS = frozenset({"quantization_config", "input_axes", "output_axes"})


@dataclass(frozen=True)
class Format:
    """How a model is exported to a format, and loaded again with the library its users have.

    `suffix` is appended to the model's name; `packages` maps the modules needed in addition to
    TensorFlow to their package names. `oldest_readers` are the oldest releases that were tried and
    gave the same probabilities; docs/exports.md says how.
    """

    suffix: str
    write: Callable[[KerasChampion, Path], None]
    read: Callable[[Path], Predict]
    packages: Mapping[str, str]
    oldest_readers: tuple[str, ...]
    needs_tensorflow: bool = True


def _write_keras(champion: KerasChampion, path: Path) -> None:
    """Copy the champion's archive, without keys that older versions of Keras do not know."""
    with zipfile.ZipFile(champion.path) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename == "config.json":
                content = json.dumps(without_newer_keys(json.loads(content))).encode()
            target.writestr(member, content)


def without_newer_keys(value: Any) -> Any:
    """Return a configuration without the newer keys that say nothing, at any depth."""
    if isinstance(value, list):
        return [without_newer_keys(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: without_newer_keys(one)
        for key, one in value.items()
        if key not in NEWER_KEYS or one is not None
    }


def _read_keras(path: Path) -> Predict:
    model = load_model(path)
    return lambda images: np.asarray(model.predict_on_batch(images))


def _exporter(form: str) -> Callable[[KerasChampion, Path], None]:
    def write(champion: KerasChampion, path: Path) -> None:
        export(champion.model, path, form)

    return write


def _read_saved_model(path: Path) -> Predict:
    import tensorflow as tf

    # The lambda must reference `loaded`: the signature alone would not keep the variables alive.
    loaded = tf.saved_model.load(str(path))
    return lambda images: np.asarray(
        loaded.signatures["serving_default"](**{INPUT: tf.constant(images)})[OUTPUT]
    )


def _write_onnx(champion: KerasChampion, path: Path) -> None:
    write_onnx(champion.model, path)


def _read_litert(path: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()
    return lambda images: np.asarray(runner(**{INPUT: images})[OUTPUT])


FORMATS: Mapping[str, Format] = {
    "keras": Format(
        ".keras", _write_keras, _read_keras, {}, ("keras 3.0.5",), needs_tensorflow=False
    ),
    "savedmodel": Format(
        "-savedmodel",
        _exporter("tf_saved_model"),
        _read_saved_model,
        {},
        ("tensorflow 2.12.1",),
    ),
    "onnx": Format(
        ".onnx",
        _write_onnx,
        read_onnx,
        {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
        ("onnxruntime 1.12.1",),
    ),
    "litert": Format(
        ".tflite",
        _exporter("litert"),
        _read_litert,
        {"ai_edge_litert": "ai-edge-litert"},
        ("ai-edge-litert 1.0.1", "tflite-runtime 2.13.0"),
    ),
}
