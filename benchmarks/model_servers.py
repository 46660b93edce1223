"""The servers that benchmarks.serving compares: how each is installed, started and asked.

All of them run the same ONNX file in ONNX Runtime with one thread per worker, without access logs.
Each rival has an environment of its own, made by pip on first use.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.environments import installed
from digits.settings import ROOT

ONNXRUNTIME = "onnxruntime==1.32.0"
RIVALS = ROOT / "benchmarks" / "rivals"
Floats = npt.NDArray[np.float32]
JSON = {"Content-Type": "application/json"}
# Where the probabilities stand in an answer.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Question:
    """One request: its address, body and headers, and where its answer has the probabilities."""

    name: str
    path: str
    body: bytes
    place: Place
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)

    def probabilities(self, answer: bytes) -> Floats:
        """Return the probabilities of the only image, (10,)."""
        found: Any = json.loads(answer)
        for step in self.place:
            found = found[step]
        return np.asarray(found, dtype=np.float32).reshape(-1)


@dataclass(frozen=True)
class ModelServer:
    """A server: its packages, command and questions.

    In the command and the variables, {port}, {workers} and {onnx} are filled in.
    """

    name: str
    packages: Sequence[str]
    command: Sequence[str]
    ready: str
    questions: Sequence[Question]
    variables: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = RIVALS

    def environment(self, root: Path) -> Path:
        """Return the folder of the server's programs, after installing them if need be."""
        if not self.packages:
            return Path(sys.executable).parent
        name = self.name.partition(",")[0].replace(" ", "-").lower()
        return installed(root / name, self.packages)

    def start(
        self, programs: Path, values: Mapping[str, str], pinned: Sequence[int], log: Path
    ) -> "subprocess.Popen[bytes]":
        """Start the server on these cores, in its own process group."""
        first, *rest = (part.format(**values) for part in self.command)
        variables = {name: value.format(**values) for name, value in self.variables.items()}
        cores = ",".join(map(str, pinned))
        with log.open("wb") as said:
            return subprocess.Popen(
                ["taskset", "-c", cores, programs / first, *rest],
                cwd=self.cwd,
                env={
                    **os.environ,
                    "ONNX_FILE": values["onnx"],
                    "WORKERS": values["workers"],
                    "PATH": f"{programs}:{os.environ['PATH']}",
                    **variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )


def model_servers(image: npt.NDArray[np.uint8], mlflow_model: Path) -> list[ModelServer]:
    """Return all servers, each asked about one image, uint8 (28, 28).

    `mlflow_model` is the folder of the same model as MLflow has it.
    """
    pixels = np.divide(image, np.float32(255))
    return [ours(image), *rivals(pixels, mlflow_model)]


def ours(image: npt.NDArray[np.uint8]) -> ModelServer:
    """Return `digits serve`, asked in three ways."""
    pixels = np.divide(image, np.float32(255))
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    infer = "/v2/models/mnist/infer"
    tensor = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "FP32"}
    as_json = json.dumps({"inputs": [{**tensor, "data": pixels.ravel().tolist()}]}).encode()
    raw = pixels.astype("<f4").tobytes()
    sizes = {"parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [{**tensor, **sizes}]}).encode()
    binary = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    probabilities = ("outputs", 0, "data")
    return ModelServer(
        "digits serve",
        (),
        ("digits", "serve", "--port", "{port}", "--workers", "{workers}", "--no-access-log"),
        "/v2/health/ready",
        (
            Question("v2, JSON", infer, as_json, probabilities),
            Question("v2, binary", infer, head + raw, probabilities, binary),
            Question(
                "/predict, PNG",
                "/predict?dataset=mnist&as_is=true",
                png.getvalue(),
                ("predictions", 0, "probabilities"),
                {"Content-Type": "image/png"},
            ),
        ),
        cwd=ROOT,
    )


def rivals(pixels: Floats, mlflow_model: Path) -> list[ModelServer]:
    """Return the others, asked with the same image as nested JSON lists, in 0..1."""
    nested = json.dumps({"image": pixels.tolist()}).encode()
    batch = json.dumps({"image": pixels[np.newaxis, ..., np.newaxis].tolist()}).encode()
    inputs = json.dumps({"inputs": json.loads(batch)}).encode()
    fast = ("uvloop", "httptools")  # uvicorn takes them if they are there
    return [
        ModelServer(
            "FastAPI by hand",
            ("fastapi", "uvicorn", "numpy", "orjson", ONNXRUNTIME, *fast),
            (
                *("uvicorn", "fastapi_app:app", "--host", "127.0.0.1", "--port", "{port}"),
                *("--workers", "{workers}", "--no-access-log", "--log-level", "warning"),
            ),
            "/health",
            (Question("JSON", "/predict", nested, ("probabilities",)),),
        ),
        *(
            ModelServer(
                name,
                ("bentoml==1.4.40", "numpy", ONNXRUNTIME, *fast),
                (
                    *("bentoml", "serve", "bentoml_service:Digits", "--host", "127.0.0.1"),
                    *("--port", "{port}", "--quiet"),
                ),
                "/readyz",
                (Question("JSON", "/predict", batch, (0,)),),
                {"BENTOML_DO_NOT_TRACK": "True", "BATCH": batches},
            )
            for name, batches in (("BentoML", "no"), ("BentoML, adaptive batching", "yes"))
        ),
        ModelServer(
            "LitServe",
            ("litserve==0.2.19", "numpy", ONNXRUNTIME, *fast),
            ("python", "litserve_server.py", "{port}"),
            "/health",
            (Question("JSON", "/predict", nested, ("probabilities",)),),
        ),
        ModelServer(
            "MLflow models serve",
            ("mlflow==3.17.2", "onnx", ONNXRUNTIME, *fast),
            (
                *("mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1"),
                *("--port", "{port}", "--workers", "{workers}", "--model-uri", str(mlflow_model)),
            ),
            "/ping",
            (Question("JSON", "/invocations", inputs, ("predictions", "output_0", 0)),),
            {"MLFLOW_DISABLE_TELEMETRY": "true"},
        ),
    ]
