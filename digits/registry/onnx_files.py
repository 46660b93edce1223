"""ONNX files: written from a Keras model, read by ONNX Runtime."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

    from digits.registry.label_checks import Predict

FILE = "model.onnx"
INPUT, OUTPUT = "image", "output_0"


def export(model: "keras.Model", path: Path, form: str) -> None:
    """Write a model in one of the formats of Keras's `export`, with a named input."""
    import keras

    signature = [keras.InputSpec(shape=model.input_shape, dtype="float32", name=INPUT)]
    with warnings.catch_warnings():
        # The converters use deprecated names of their libraries.
        warnings.simplefilter("ignore", FutureWarning)
        model.export(str(path), format=form, input_signature=signature, verbose=False)


def write_onnx(model: "keras.Model", path: Path) -> None:
    """Write a model as ONNX, with a free batch size; equal models give equal bytes."""
    import onnx

    export(model, path, "onnx")
    written = onnx.load(path)
    (image,), (output,) = written.graph.input, written.graph.output
    _name_by_order(written.graph, {"": "", image.name: INPUT, output.name: OUTPUT})
    for value in (image, output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    written.graph.ClearField("doc_string")  # the name of the converted function, with a number
    onnx.checker.check_model(written)
    onnx.save(written, path)


def read_onnx(path: Path) -> "Predict":
    """Load an ONNX file as its users do."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def _name_by_order(graph: Any, names: dict[str, str]) -> None:
    """Name all values by their order: the converter numbers them as its process goes on."""

    def named(name: str) -> str:
        return names.setdefault(name, f"value_{len(names)}")

    for value in graph.input:
        value.name = named(value.name)
    for node in graph.node:
        node.input[:] = map(named, node.input)
        node.output[:] = map(named, node.output)
        node.name = node.output[0]
        for inner in (one.g for one in node.attribute if one.HasField("g")):
            _name_by_order(inner, names)
    for value in graph.output:
        value.name = named(value.name)
    order = {name: number for number, name in enumerate(names.values())}
    for weight in graph.initializer:
        weight.name = named(weight.name)
    graph.initializer.sort(key=lambda weight: order[weight.name])
    del graph.value_info[:]
