"""Lineage: the inputs and the output of each step that led to a result."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from digits.errors import DamagedError
from digits.storage.records import Records, StepKey
from digits.storage.references import Frozen, Kind, Reference
from digits.storage.store import Store


class LineageRef(Reference):
    """The lineage of a model version: lineage.json."""

    kind: ClassVar[Kind] = "lineages"


class LineageStep(Frozen):
    """One step: the parts of its key, the digest of its output, and where it ran (see Record)."""

    key: StepKey
    output: str
    processor: str = ""
    variables: dict[str, str] | None = None


Lineage = Mapping[str, LineageStep]
LINEAGE = TypeAdapter(dict[str, LineageStep])


def trace(references: Iterable[Reference], records: Records) -> Lineage:
    """Collect the records of the steps that made `references`, by label ("train cnn").

    Steps without a valid record are omitted: their results were used but could not be cached.
    """
    steps = {}
    for reference in references:
        with contextlib.suppress(DamagedError):
            record = records.recent(reference.made_by)
            if record is not None:
                steps[record.label] = LineageStep(
                    key=record.key,
                    output=reference.digest,
                    processor=record.processor,
                    variables=record.variables,
                )
    return steps


def write_lineage(lineage: Lineage, store: Store) -> str:
    """Store the lineage of a model version and return the bundle's digest."""
    steps: dict[str, Any] = {label: step.model_dump(mode="json") for label, step in lineage.items()}
    with store.create("lineages") as draft:
        text = json.dumps(steps, indent=1, sort_keys=True)
        (draft.path / "lineage.json").write_text(text, encoding="utf-8")
    return draft.digest


def read_lineage(digest: str, store: Store) -> Lineage:
    """Read the lineage of a model version by its digest. Raises DamagedError."""
    reference = LineageRef(digest=digest)
    store.verify(reference)
    path = store.folder(reference) / "lineage.json"
    try:
        return LINEAGE.validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise DamagedError(f"{path} is not a valid lineage: {problem}") from error
