"""The page, and what it says about the datasets."""

import functools
import hashlib
import re
from base64 import b64encode
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from digits.server.comparisons import others_of
from digits.server.context import Context
from digits.server.refusals import json_answer
from digits.server.slots import Served

# Another release may have another page, whose requests fit its server.
HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE = files("digits").joinpath("templates", "draw.html")


def page_routes(context: Context) -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter(tags=["page"])

    @routes.get("/", include_in_schema=False)
    def page() -> Response:
        """Return the page on which one draws."""
        content, policy = drawing_page()
        return HTMLResponse(content, headers={"Content-Security-Policy": policy, **HEADERS})

    @routes.get("/datasets")
    async def datasets() -> Response:
        """List the datasets in service, their classes and champions."""
        served = [slot.served for slot in context.models.slots.values() if slot.served]
        return json_answer({"datasets": [await _facts(context, one) for one in served]})

    return routes


@functools.cache
def drawing_page() -> tuple[bytes, str]:
    """Return the page and its policy, which names its script and its style by their hashes.

    Whatever else is on the page, such as markup in the name of a class, cannot run or be styled,
    and nothing is asked from another host.
    """
    content = PAGE.read_bytes()
    policy = {
        "default-src": "'none'",
        "script-src": _hashes(content, b"script"),
        "style-src": _hashes(content, b"style"),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return content, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hashes(content: bytes, tag: bytes) -> str:
    blocks = re.findall(rb"<%b\b[^>]*>(.*?)</%b>" % (tag, tag), content, re.DOTALL)
    digests = (b64encode(hashlib.sha256(block).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


async def _facts(context: Context, served: Served) -> dict[str, Any]:
    version = served.version
    return {
        "name": version.dataset,
        "title": served.title,
        "class_names": version.layout.class_names,
        "image_shape": version.layout.image_shape,
        "version": version.number,
        "digest": version.digest,
        "model": version.model.name,
        "accuracy": version.model.accuracy,
        "compared": [
            {
                "version": other.version,
                "model": other.model.name,
                "accuracy": other.model.accuracy,
            }
            for other in await others_of(context, served)
        ],
    }
