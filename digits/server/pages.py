"""The page, and what it says about the datasets."""

from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from digits.server.comparisons import others_of
from digits.server.context import Context
from digits.server.refusals import Refusal, json_answer
from digits.server.served_models import Served

# Its script and style are part of it, and it asks no other host for anything.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGE = files("digits").joinpath("templates", "draw.html")


def page_routes(context: Context) -> APIRouter:
    """Return the routes of the page."""
    routes = APIRouter(tags=["page"])

    @routes.get("/", include_in_schema=False)
    def page() -> Response:
        """Return the page on which one draws."""
        if not PAGE.is_file():
            raise Refusal(404, "this installation has no page")
        return HTMLResponse(PAGE.read_bytes(), headers={"Content-Security-Policy": POLICY})

    @routes.get("/datasets")
    async def datasets() -> Response:
        """List the datasets in service, their classes and champions."""
        served = [slot.served for slot in context.models.slots.values() if slot.served]
        return json_answer({"datasets": [await _facts(context, one) for one in served]})

    return routes


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
