"""A model's ONNX form as an MLflow model, which `mlflow models serve` and its clients load."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from digits.storage.references import OnnxRef

FOLDER = "model"
# Written last: if it is there, so is the rest.
DESCRIPTION = "MLmodel"


def log_form(client: MlflowClient, run: str, path: Path, form: OnnxRef) -> None:
    """Add the ONNX file at `path`, unchanged, to an MLflow run as the model `model`."""
    there = {Path(file.path).name for file in client.list_artifacts(run, FOLDER)}
    if DESCRIPTION in there:
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / FOLDER
        write_model(folder, path, form)
        files = sorted(folder.iterdir(), key=lambda file: file.name == DESCRIPTION)
        for file in files:
            client.log_artifact(run, str(file), FOLDER)


def write_model(folder: Path, path: Path, form: OnnxRef, threads: int | None = None) -> None:
    """Write a new folder with the ONNX file at `path` as MLflow's model.

    `threads` is the number of ONNX Runtime's threads for one request (default: all cores).
    """
    options = threads and {"intra_op_num_threads": threads, "inter_op_num_threads": threads}
    model = onnx.load(path)
    mlflow.onnx.save_model(
        model,
        folder,
        signature=ModelSignature(_schema(model.graph.input), _schema(model.graph.output)),
        pip_requirements=[f"{name}=={version(name)}" for name in ("onnx", "onnxruntime")],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options=options,
        metadata={"model": form.model, "model_digest": form.model_digest, "digest": form.digest},
        save_as_external_data=False,
    )
    # The bytes whose digest the ledger has, not what onnx writes for them.
    shutil.copyfile(path, folder / "model.onnx")


def _schema(values: onnx.ValueInfoProto) -> Schema:
    """The names and shapes of float32 tensors; -1 for any size."""
    shapes = {
        value.name: tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)
        for value in values
    }
    return Schema([TensorSpec(np.dtype("float32"), shape, name) for name, shape in shapes.items()])
