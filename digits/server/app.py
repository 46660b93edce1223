"""The application of one worker: its routes, and what surrounds each request."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from io import FileIO
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from digits.server.access import Keys
from digits.server.access_log import AccessLog
from digits.server.context import Context
from digits.server.draining import draining, end_with_parent
from digits.server.feedback import feedback_routes
from digits.server.guard import FORBIDDEN, Guard
from digits.server.health import health_routes
from digits.server.hot_route import HotRoute
from digits.server.metrics import Metrics
from digits.server.open_inference import open_inference_routes
from digits.server.options import ServerOptions
from digits.server.pages import page_routes
from digits.server.predictions import Asked, predict_now
from digits.server.recorder import Recorder
from digits.server.refusals import INTERNAL, Refusal, json_answer
from digits.server.samples import Sampler
from digits.server.served_models import ServedModels
from digits.server.uploads import BODY
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)
CENTERING = "digits.labeling.centering"
DESCRIPTION = "Labels images with the champion of each dataset, and follows promotions."


def create_app(options: ServerOptions) -> ASGIApp:
    """Return the application of one worker."""
    metrics = Metrics()
    workspace = Workspace(options.settings)
    context = Context(
        options=options,
        models=ServedModels(options.datasets, workspace, metrics),
        metrics=metrics,
        sampler=Sampler(options.sample, options.settings, metrics.lost.labels("samples").inc),
    )
    app = FastAPI(
        title="digits",
        description=DESCRIPTION,
        lifespan=lambda _: _living(context),
        docs_url=None,  # it loads scripts from another host
        redoc_url=None,
        exception_handlers={
            Refusal: _refused,
            HTTPException: _http_error,
            RequestValidationError: _invalid,
            Exception: _failed,
        },
        responses={"4XX": {"description": 'Refused: {"error": "..."}'}},
    )
    for routes in (
        predict_routes(context),
        feedback_routes(context),
        open_inference_routes(context),
        page_routes(context),
        health_routes(context),
    ):
        app.include_router(routes)
    log = None
    if options.has_access_log:
        log = AccessLog(_standard_output(), metrics.lost.labels("log lines").inc)
    guarded = Guard(HotRoute(app, context), names=options.names, refuse=_foreign)
    keys = Keys(options.api_key.get_secret_value()) if options.api_key else None
    return Recorder(guarded, context, keys, log)


def predict_routes(context: Context) -> APIRouter:
    """Return the route for pictures."""
    routes = APIRouter(tags=["pictures"])

    @routes.post("/predict", openapi_extra=BODY)
    async def predict(
        request: Request,
        *,
        dataset: str | None = None,
        version: Annotated[int | None, Query(ge=1)] = None,
        each: bool = False,
        as_is: bool | None = None,
        compare: bool = False,
        seen: bool = False,
    ) -> Response:
        """Label pictures: a form, one raw picture, or base64 in JSON."""
        asked = Asked(dataset, version, each, as_is, compare, seen)
        return await predict_now(context, request.scope, request.receive, asked)

    return routes


@contextlib.asynccontextmanager
async def _living(context: Context) -> AsyncIterator[None]:
    """Load the champions, then follow the ledgers until the end."""
    await asyncio.to_thread(context.models.look)
    following = asyncio.create_task(context.models.follow())
    # What preparing pictures needs, so that the first one does not wait for it.
    importing = asyncio.create_task(asyncio.to_thread(import_module, CENTERING))
    ending = asyncio.create_task(end_with_parent())
    try:
        with draining(context):
            yield
    finally:
        for task in (following, importing, ending):
            task.cancel()
        context.sampler.close()


def _standard_output() -> FileIO:
    return FileIO(os.dup(sys.__stdout__.fileno() if sys.__stdout__ else 1), "w")


def _foreign(reason: str) -> Response:
    return json_answer({"error": f"refused: {reason}"}, FORBIDDEN)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101
    return error.answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 404:
        return json_answer({"error": f"unknown address {request.url.path}"}, 404)
    return json_answer({"error": error.detail}, error.status_code, error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first: Any = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return json_answer({"error": f"{place}: {first['msg']}"}, 400)


async def _failed(_: Request, __: Exception) -> Response:
    # The server logs the traceback.
    return json_answer({"error": INTERNAL}, 500)
