"""Health and metrics."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from digits.server.context import Context
from digits.server.refusals import json_answer

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def health_routes(context: Context) -> APIRouter:
    """Return the routes that say how the server is."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/health")
    async def health() -> Response:
        """Say of each dataset which version is in service, and what is wrong, if anything."""
        return json_answer(_details(context), 200 if context.is_ready else 503)

    @routes.get("/metrics")
    def metrics() -> Response:
        """Return Prometheus metrics of all workers."""
        return Response(context.metrics.render(), media_type=METRICS_TYPE)

    return routes


def _details(context: Context) -> dict[str, Any]:
    datasets = {}
    for name, slot in context.models.slots.items():
        version = slot.served.version if slot.served else None
        datasets[name] = {
            "ready": version is not None,
            "version": version.number if version else None,
            "digest": version.digest if version else None,
            "problem": slot.problem,
        }
    problem = None
    if context.is_draining:
        problem = "the server is about to end"
    elif not datasets:
        problem = "no dataset has a champion yet; `digits run` makes one"
    return {"ready": context.is_ready, "problem": problem, "datasets": datasets}
