"""The lineage of a version: what each step that led to it depended on, kept in the store."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from digits.errors import DamagedError
from digits.records import StepKey
from digits.references import Frozen, Kind, Reference
from digits.store import Store
from digits.workspace import Workspace


class LineageRef(Reference):
    """A version's lineage: lineage.json."""

    kind: ClassVar[Kind] = "lineages"


class LineageStep(Frozen):
    """One step: its key's parts, and the digest of what it made."""

    key: StepKey
    output: str


Lineage = dict[str, LineageStep]


def write_lineage(references: Sequence[Reference], workspace: Workspace) -> str:
    """Keep what the records say of the steps that made `references`; the bundle's digest."""
    steps: dict[str, Any] = {}
    for reference in references:
        record = workspace.records.read(reference.made_by)
        if record is not None:
            step = LineageStep(key=record.key, output=reference.digest)
            steps[record.key.step] = step.model_dump(mode="json")
    with workspace.store.create("lineages") as draft:
        text = json.dumps(steps, indent=1, sort_keys=True)
        (draft.path / "lineage.json").write_text(text, encoding="utf-8")
    return draft.digest


def read_lineage(digest: str, store: Store) -> Lineage:
    """A version's lineage by its digest. Raises DamagedError."""
    reference = LineageRef(digest=digest)
    store.verify(reference)
    path = store.folder(reference) / "lineage.json"
    try:
        steps = json.loads(path.read_bytes())
        return {name: LineageStep.model_validate(step) for name, step in steps.items()}
    except (ValueError, OSError) as error:
        raise DamagedError(f"{path} is not a lineage: {error}") from error
