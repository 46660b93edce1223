"""Requests that are refused, and JSON answers."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

JSON = "application/json"
INTERNAL = "internal error; the server's log says more"
CLOSE = {"Connection": "close"}


class Refusal(Exception):  # noqa: N818
    """A request that cannot be answered: the status, and what to tell the client."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers

    @property
    def answer(self) -> Response:
        """The answer: {"error": message}."""
        return json_answer({"error": str(self)}, self.status, self.headers)


def json_answer(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer of plain values and arrays as JSON."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers=headers, media_type=JSON)
