"""The pictures in the body of a request: a form, one raw picture, or base64 in JSON."""

import binascii
from base64 import b64decode
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import orjson
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from digits.server.bodies import MAX_BYTES
from digits.server.refusals import JSON, Refusal

FORM = "multipart/form-data"
RAW = ("image/", "application/octet-stream")
FIELD = "image"
MAX_PICTURES = 64
EXPECTED = (
    "expected multipart/form-data with files in fields named `image`, one picture as image/* or "
    'application/octet-stream, or application/json with {"images": ["<base64>", ...]}'
)


class Upload(NamedTuple):
    """A picture's file name, or its number if it has none, and its content."""

    file: str
    content: bytes


async def pictures_of(headers: Headers, body: bytes) -> list[Upload]:
    """Return the pictures of a body. Raises Refusal if there are none, or too many."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        uploads = await _of_form(headers, body)
    elif kind == JSON:
        uploads = _of_json(body)
    elif kind.startswith(RAW):
        uploads = [Upload("1", body)] if body else []
    else:
        raise Refusal(415, f"Content-Type is {kind[:60]!r} ({EXPECTED})")
    if not uploads:
        raise Refusal(400, f"no picture in the body ({EXPECTED})")
    if len(uploads) > MAX_PICTURES:
        raise Refusal(
            413, f"{len(uploads)} pictures (expected at most {MAX_PICTURES} in a request)"
        )
    return uploads


async def _of_form(headers: Headers, body: bytes) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=MAX_PICTURES + 1, max_fields=MAX_PICTURES)
    # Otherwise large files would be written to a temporary file.
    parser.spool_max_size = MAX_BYTES
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "message", "") or error
        raise Refusal(400, f"the form is invalid: {why}") from None
    try:
        files = [part for name, part in form.multi_items() if name == FIELD]
        return [
            Upload(file.filename or str(number), await file.read())
            for number, file in enumerate(files, 1)
            if isinstance(file, UploadFile)
        ]
    finally:
        await form.close()


def _of_json(body: bytes) -> list[Upload]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    images = fields.get("images") if isinstance(fields, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise Refusal(400, f"the JSON has no list of strings `images` ({EXPECTED})")
    try:
        return [
            Upload(str(number), b64decode(image, validate=True))
            for number, image in enumerate(images, 1)
        ]
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"images: not base64: {error}") from None


_PICTURE = {"type": "string", "format": "binary"}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": _PICTURE}},
                }
            },
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {"type": "string", "format": "byte"},
                            "minItems": 1,
                            "maxItems": MAX_PICTURES,
                        }
                    },
                }
            },
            "image/*": {"schema": _PICTURE},
            "application/octet-stream": {"schema": _PICTURE},
        },
    }
}
