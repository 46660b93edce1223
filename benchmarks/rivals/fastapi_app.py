"""What one writes by hand: FastAPI and ONNX Runtime, without anything else."""

import os
from typing import Any

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["ONNX_FILE"], options, providers=["CPUExecutionProvider"]
)
app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
async def predict(request: Request) -> Response:
    body: dict[str, Any] = orjson.loads(await request.body())
    image = np.asarray(body["image"], dtype=np.float32).reshape(1, 28, 28, 1)
    (probabilities,) = session.run(None, {"image": image})
    answer = {"probabilities": probabilities[0], "label": int(probabilities[0].argmax())}
    return Response(
        orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )
