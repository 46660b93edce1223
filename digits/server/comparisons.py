"""What the other models say: those of the same run, and the champion before."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from digits.inference.onnx_models import OnnxModel
from digits.labeling.image_files import Grey
from digits.labeling.pictures import Picture
from digits.server.batching import Probabilities
from digits.server.context import Context
from digits.server.refusals import Refusal
from digits.server.slots import Served


class Compared(NamedTuple):
    """A model's probabilities float32 (n, K); `version`: the run of which version trained it."""

    version: int
    model: str
    scores: Probabilities


class Other(NamedTuple):
    """A model to compare with."""

    version: int
    model: OnnxModel


async def others_of(context: Context, served: Served) -> list[Other]:
    """Return the models to compare a version with; the champion before only if it can be served."""
    version = served.version
    found = [Other(version.number, model) for model in version.others]
    before = context.models.slots[version.dataset].before_of(version.number)
    if before is not None:
        try:
            previous = (await context.models.version(version.dataset, before)).version
        except Refusal:
            return found
        if previous.digest not in {version.digest, *(other.model.digest for other in found)}:
            found.append(Other(before, previous.model))
    return found


async def compare(context: Context, served: Served, pictures: Sequence[Picture]) -> list[Compared]:
    """Label pictures with the other models, beside the event loop."""
    seen = np.stack([picture.seen for picture in pictures])
    others = await others_of(context, served)
    return await asyncio.to_thread(_compare, others, seen)


def _compare(others: list[Other], seen: Grey) -> list[Compared]:
    return [
        Compared(other.version, other.model.name, other.model.predict(seen)) for other in others
    ]
