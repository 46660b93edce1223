"""Which ONNX forms a model version has, and which are still to be made."""

import logging
from collections.abc import Sequence

from digits.registry.ledger import Entry, ModelVersion, forms_of
from digits.storage.references import ModelRef, OnnxRef
from digits.storage.store import Store

logger = logging.getLogger(__name__)


def new_forms(
    forms: Sequence[OnnxRef], champion: ModelVersion | None, entries: list[Entry]
) -> tuple[OnnxRef, ...]:
    """Return the forms to record for a champion: those made for it, if they are not recorded."""
    if champion is None or not forms or forms[0].model_digest != champion.model.digest:
        return ()
    recorded = {form.digest for form in forms_of(entries, champion.number)}
    return () if {form.digest for form in forms} <= recorded else tuple(forms)


def missing_forms(
    champion: ModelVersion, of_run: Sequence[ModelRef], entries: list[Entry], store: Store
) -> list[ModelRef]:
    """Return the models to convert so that a champion's forms are recorded and intact.

    Nothing if they are. A version of an earlier release has none: then its own model and, if it is
    among those of this run, the others. Corrupted forms are made again, where this run can.
    """
    recorded = forms_of(entries, champion.number)
    if recorded and all(map(store.is_whole, recorded)):
        return []
    if not store.is_whole(champion.model):
        logger.warning(
            "version %d has no ONNX form, and none can be made: its model is corrupted or missing; "
            "restore %s from a backup",
            *(champion.number, store.folder(champion.model)),
        )
        return []
    digests = [model.digest for model in of_run]
    wanted = {form.model_digest for form in recorded}
    if champion.model.digest in digests and not recorded:
        wanted = set(digests)
    others = [model for model in of_run if model.digest in wanted - {champion.model.digest}]
    return [champion.model, *others]
