"""POST /predict: pictures are read, centered and labeled as `digits predict` does it."""

import asyncio
import io
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from digits.inference.loaded_versions import LoadedVersion
from digits.labeling.image_files import Grey, decode_image
from digits.labeling.pictures import Picture, Refused, prepare, way_of_seeing
from digits.server.batching import Probabilities
from digits.server.bodies import read_body
from digits.server.comparisons import Compared, compare
from digits.server.context import Context
from digits.server.refusals import Refusal, json_answer
from digits.server.slots import Served
from digits.server.uploads import Upload, pictures_of

# A phone's photo has 12 million.
MAX_PIXELS = 25_000_000
# Digits of a picture, and of all pictures of a request.
MAX_DIGITS_OF_PICTURE = 200
MAX_DIGITS = 1024
# Pictures are decoded and centered by threads, while the event loop goes on with small requests.
_threads = ThreadPoolExecutor(2, "pictures")
# Requests that wait for a thread; with more, their clients would give up before.
MAX_WAITING = 256


class Asked(NamedTuple):
    """The options of a request; docs/serve.md explains them."""

    dataset: str | None = None
    version: int | None = None
    each: bool = False
    as_is: bool | None = None
    compare: bool = False
    seen: bool = False


async def predict_now(context: Context, scope: Scope, receive: Receive, asked: Asked) -> Response:
    """Answer one request. Raises Refusal."""
    headers = Headers(scope=scope)
    dataset = asked.dataset or _only_dataset(context)
    if asked.each and asked.as_is:
        raise Refusal(400, "each and as_is exclude each other: images as they are are whole")
    served = await context.models.version(dataset, asked.version)
    uploads = await pictures_of(headers, await read_body(headers, receive))
    found = await _prepared(context, uploads, served.version, asked)
    pictures = [item for item in found if isinstance(item, Picture)]
    if len(pictures) > MAX_DIGITS:
        raise Refusal(413, f"{len(pictures):,} digits (expected at most {MAX_DIGITS:,})")
    scores = await _scored(served, pictures)
    compared = await compare(context, served, pictures) if asked.compare and pictures else []
    _account(context, scope, served, pictures, scores)
    version = served.version
    rows = _rows(found, scores, compared, asked, version.layout.class_names)
    answer = json_answer(
        {
            "dataset": dataset,
            "version": version.number,
            "digest": version.digest,
            "model": version.model.name,
            "predictions": rows,
        }
    )
    answer.raw_headers.extend(served.headers)
    return answer


def _only_dataset(context: Context) -> str:
    names = list(context.models.slots)
    if len(names) == 1 or "mnist" in names:
        return "mnist" if "mnist" in names else names[0]
    raise Refusal(400, f"dataset is missing (served here: {', '.join(names) or 'none yet'})")


async def _prepared(
    context: Context, uploads: list[Upload], version: LoadedVersion, asked: Asked
) -> list[Picture | Refused]:
    if context.num_waiting >= MAX_WAITING:
        raise Refusal(503, "too many pictures are waiting; try again", {"Retry-After": "1"})
    context.num_waiting += 1
    try:
        prepare_all = partial(_prepare_all, uploads, version, asked)
        return await asyncio.get_running_loop().run_in_executor(_threads, prepare_all)
    finally:
        context.num_waiting -= 1


def _prepare_all(
    uploads: list[Upload], version: LoadedVersion, asked: Asked
) -> list[Picture | Refused]:
    see = way_of_seeing(
        as_is=asked.as_is,
        each=asked.each,
        is_centered=version.is_centered,
        max_digits=MAX_DIGITS_OF_PICTURE,
    )
    return [
        item
        for upload in uploads
        for item in prepare(
            upload.file,
            partial(decode_image, upload.content, MAX_PIXELS),
            version.layout.image_shape,
            see,
        )
    ]


async def _scored(served: Served, pictures: Sequence[Picture]) -> Probabilities:
    if not pictures:
        return np.empty((0, served.version.layout.num_classes), np.float32)
    seen = np.stack([picture.seen for picture in pictures])
    return await served.batcher.compute(np.divide(seen[..., np.newaxis], np.float32(255)))


def _rows(
    found: list[Picture | Refused],
    scores: Probabilities,
    compared: list[Compared],
    asked: Asked,
    names: tuple[str, ...],
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    numbers = iter(range(len(scores)))
    for item in found:
        if isinstance(item, Refused):
            rows.append({"file": item.file, "error": item.error})
            continue
        number = next(numbers)
        row = {"file": item.file, "part": item.part, **_answer(scores[number], names)}
        row["note"] = item.note
        if asked.seen:
            row["seen"] = b64encode(_png(item.seen)).decode()
        if asked.compare:
            row["compared"] = [
                {"version": other.version, "model": other.model}
                | _answer(other.scores[number], names)
                for other in compared
            ]
        rows.append(row)
    return rows


def _answer(scores: Probabilities, names: tuple[str, ...]) -> dict[str, Any]:
    label = int(scores.argmax())
    return {
        "label": label,
        "name": names[label],
        "probability": scores[label],
        "probabilities": scores,
    }


def _png(seen: Grey) -> bytes:
    content = io.BytesIO()
    Image.fromarray(seen).save(content, "PNG")
    return content.getvalue()


def _account(
    context: Context,
    scope: Scope,
    served: Served,
    pictures: Sequence[Picture],
    scores: Probabilities,
) -> None:
    version = served.version
    facts = {"dataset": version.dataset, "version": version.number, "images": len(pictures)}
    scope["digits.log"] = facts
    context.metrics.images.labels(version.dataset, str(version.number)).inc(len(pictures))
    if context.sampler.draws:
        context.sampler.keep(version, (picture.seen for picture in pictures), scores)
