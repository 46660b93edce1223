"""POST /feedback: what a picture really showed, kept for a person to look at."""

import asyncio
import binascii
from base64 import b64decode
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from digits.errors import DataError
from digits.intake.corrections import Correction, FullError, keep_correction, read_correction
from digits.server.bodies import read_body
from digits.server.context import Context
from digits.server.refusals import JSON, Refusal, json_answer

# A picture of 64x64 without compression, in base64, with room for text.
MAX_CHARACTERS = 32 * 1024
Class = Annotated[int, Field(ge=0, lt=1000)]


class Feedback(BaseModel):
    """A picture as the model saw it, its true class, and what the model said."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dataset: str
    version: Annotated[int, Field(ge=1)]
    image: Annotated[str, Field(max_length=MAX_CHARACTERS, description="PNG in base64")]
    label: Class
    predicted: Class


BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {JSON: {"schema": Feedback.model_json_schema()}}}
}

OTHERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "These pixels were kept before; this label counts now"},
    507: {"description": "Too many corrections wait, or the disk is full"},
}


def feedback_routes(context: Context) -> APIRouter:
    """Return the route for corrections."""
    routes = APIRouter(tags=["pictures"])

    @routes.post("/feedback", status_code=201, openapi_extra=BODY, responses=OTHERS)
    async def feedback(request: Request) -> Response:
        """Keep the true class of a picture, once for the same pixels; the last answer counts."""
        try:
            given = Feedback.model_validate_json(await read_body(request.headers, request.receive))
        except ValidationError as error:
            raise Refusal(400, _describe(error)) from None
        return await asyncio.to_thread(_keep, given, context)

    return routes


def _keep(given: Feedback, context: Context) -> Response:
    layout = context.models.champion(given.dataset).version.layout
    if given.version not in context.models.slots[given.dataset].digests:
        raise Refusal(400, f"version: {given.dataset} has no version {given.version}")
    for field, value in (("label", given.label), ("predicted", given.predicted)):
        if value >= layout.num_classes:
            raise Refusal(
                400, f"{field}: {value} is no class (expected 0 to {layout.num_classes - 1})"
            )
    try:
        content = b64decode(given.image, validate=True)
        image = read_correction(content, "image", layout.image_shape)
        correction = Correction(image, given.label, given.predicted, given.version)
        outcome = keep_correction(correction, layout, context.options.settings)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"image: not base64: {error}") from None
    except DataError as error:
        raise Refusal(400, str(error)) from None
    except FullError as error:
        raise Refusal(507, str(error)) from None
    except OSError as error:
        raise Refusal(507, f"the server cannot store it: {error.strerror}") from None
    return json_answer({"status": outcome}, 201 if outcome == "kept" else 200)


def _describe(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
