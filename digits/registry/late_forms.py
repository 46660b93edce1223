"""The ONNX form of a version without one, made when the version becomes champion by a rollback."""

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from digits.errors import DamagedError, DigitsError
from digits.registry.ledger import Entry, ModelVersion
from digits.registry.recorded_forms import missing_forms
from digits.storage.lineage import read_lineage
from digits.storage.references import Kind, ModelRef, OnnxRef, Reference
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)

Convert = Callable[[ModelRef, Reference], OnnxRef]
"""Makes a model's ONNX form, which is checked on the test images of stored arrays."""


class ArraysBundle(Reference):
    """Arrays identified only by their digest, as recorded in a lineage."""

    kind: ClassVar[Kind] = "arrays"


def make_late_forms(
    target: ModelVersion,
    champion: ModelVersion,
    entries: list[Entry],
    workspace: Workspace,
    convert: Convert | None,
) -> list[OnnxRef]:
    """Make the ONNX form of a version that lacks it, or warn that it has none.

    `convert`: see Convert; None converts at once, uncached. A version can be champion without its
    form, so that nothing keeps a bad champion from being replaced.
    """
    from digits.registry.onnx_forms import make_form

    convert = convert or partial(make_form, device="cpu", workspace=workspace)
    models = missing_forms(target, (), entries, workspace.store)
    try:
        return [convert(model, _test_images(target, champion, workspace)) for model in models]
    except DigitsError as error:
        logger.warning(
            "version %d has no ONNX form yet, so it cannot label images: %s; `digits run` makes it",
            *(target.number, error),
        )
        return []


def _test_images(target: ModelVersion, champion: ModelVersion, workspace: Workspace) -> Reference:
    """Return the arrays that a version was scored on; if they were deleted, the champion's."""
    for version in (target, champion):
        with contextlib.suppress(DamagedError, KeyError):
            lineage = read_lineage(version.lineage, workspace.store)
            arrays = ArraysBundle(digest=lineage["normalize"].output)
            workspace.store.verify(arrays)
            return arrays
    raise DamagedError("no test images to check it on are in the store")
