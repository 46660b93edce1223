"""The Open Inference Protocol, version 2, over HTTP, with its extension for binary tensors.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from importlib.metadata import version as version_of
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from digits.server.bodies import read_body
from digits.server.context import Context
from digits.server.refusals import JSON, Refusal, json_answer
from digits.server.tensors import INPUT, OUTPUT, answer_body, parse_request

JSON_SIZE = "inference-header-content-length"
PLATFORM = "onnxruntime_onnx"


def open_inference_routes(context: Context) -> APIRouter:
    """Return the protocol's routes."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @routes.get("")
    async def server_metadata() -> Response:
        """Describe the server."""
        extensions = ["binary_tensor_data"]
        return json_answer(
            {"name": "digits", "version": version_of("digits"), "extensions": extensions}
        )

    @routes.get("/health/live")
    async def live() -> Response:
        """Say that the server runs."""
        return json_answer({"live": True})

    @routes.get("/health/ready")
    async def ready() -> Response:
        """Say whether requests may be sent: each dataset has a version in service."""
        return json_answer({"ready": context.is_ready}, 200 if context.is_ready else 503)

    @routes.get("/models/{name}")
    @routes.get("/models/{name}/versions/{number}")
    async def metadata(name: str, number: int | None = None) -> Response:
        """Describe a model: its versions, its input and its output."""
        served = await context.models.version(name, number)
        height, width = served.version.layout.image_shape
        inputs = {"name": INPUT, "datatype": "FP32", "shape": [-1, height, width, 1]}
        outputs = {
            "name": OUTPUT,
            "datatype": "FP32",
            "shape": [-1, served.version.layout.num_classes],
        }
        answer = json_answer(
            {
                "name": name,
                "versions": list(map(str, context.models.slots[name].digests)),
                "platform": PLATFORM,
                "inputs": [inputs],
                "outputs": [outputs],
            }
        )
        answer.raw_headers.extend(served.headers)
        return answer

    @routes.get("/models/{name}/ready")
    @routes.get("/models/{name}/versions/{number}/ready")
    async def model_ready(name: str, number: int | None = None) -> Response:
        """Say whether a model, or a version of it, answers."""
        await context.models.version(name, number)
        return json_answer({"name": name, "ready": True})

    @routes.post("/models/{name}/infer", openapi_extra=INFER)
    @routes.post("/models/{name}/versions/{number}/infer", openapi_extra=INFER)
    async def infer(request: Request, name: str, number: int | None = None) -> Response:
        """Return the class probabilities of images: a JSON tensor, or binary data after JSON."""
        return await infer_now(context, request.scope, request.receive, name, number)

    return routes


async def infer_now(
    context: Context, scope: Scope, receive: Receive, name: str, number: int | None
) -> Response:
    """Answer one request. Raises Refusal."""
    headers = Headers(scope=scope)
    served = await context.models.version(name, number)
    body = await read_body(headers, receive)
    shape = served.version.layout.image_shape
    request = parse_request(body, _json_size(headers, len(body)), shape)
    scores = await served.batcher.compute(request.pixels)
    version = served.version
    scope["digits.log"] = {"dataset": name, "version": version.number, "images": len(scores)}
    context.metrics.images.labels(name, str(version.number)).inc(len(scores))
    if context.sampler.draws:
        seen = np.rint(request.pixels[..., 0] * 255).astype(np.uint8)
        context.sampler.keep(version, seen, scores)
    facts: dict[str, Any] = {"model_name": name, "model_version": str(version.number)}
    if request.id is not None:
        facts["id"] = request.id
    facts["parameters"] = {"digest": version.digest}
    parts = answer_body(facts, scores, is_binary=request.is_binary)
    answer = Response(b"".join(parts), media_type=JSON if len(parts) == 1 else BINARY)
    answer.raw_headers.extend(served.headers)
    if request.is_binary:
        answer.headers[JSON_SIZE] = str(len(parts[0]))
    return answer


BINARY = "application/octet-stream"


def _json_size(headers: Headers, body_size: int) -> int | None:
    text = headers.get(JSON_SIZE)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) <= body_size):
        raise Refusal(
            400,
            f"Inference-Header-Content-Length is {text[:20]!r} (expected a number of bytes, at "
            f"most the body's {body_size:,})",
        )
    return int(text)


_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "enum": [INPUT]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "enum": ["FP32", "UINT8"]},
        "data": {"type": "array", "description": "Numbers, flat or nested", "items": {}},
        "parameters": {"type": "object"},
    },
}
INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "items": _TENSOR},
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "name": {"type": "string", "enum": [OUTPUT]},
                                    "parameters": {"type": "object"},
                                },
                            },
                        },
                    },
                }
            },
        },
    }
}
