"""The shortest way to the route that programs call most: `infer`.

FastAPI takes a hundred microseconds to find a route and read its parameters, about as long as a
model takes for an image. Its own route for `infer` does the same and is in the OpenAPI document.
"""

import logging
import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from digits.server.context import Context
from digits.server.open_inference import infer_now
from digits.server.refusals import INTERNAL, Refusal, json_answer

logger = logging.getLogger(__name__)

INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]{1,9}))?/infer")


@dataclass(frozen=True)
class _Route:
    path: str


ROUTES = (_Route("/v2/models/{name}/infer"), _Route("/v2/models/{name}/versions/{number}/infer"))


class HotRoute:
    """An ASGI app that answers `infer` itself, and passes on everything else."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        found = INFER.fullmatch(scope["path"]) if is_post else None
        if found is None:
            await self._app(scope, receive, send)
            return
        name, number = found.groups()
        scope["route"] = ROUTES[number is not None]
        try:
            version = None if number is None else int(number)
            answer = await infer_now(self._context, scope, receive, name, version)
        except Refusal as refusal:
            answer = refusal.answer
        except Exception:  # not even a bug may end the connection without an answer
            logger.exception("POST %s failed", scope["path"])
            answer = json_answer({"error": INTERNAL}, 500)
        await answer(scope, receive, send)
