"""The cache's records: for each key, which step made what, from what, in which run.

One JSON file a key, with a digest over itself. A record is believed only after every byte that it
speaks of was checked: its own, and those of the bundle that its value refers to.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime

from digits import references
from digits.errors import DamagedError
from digits.references import Frozen, Kind, Reference
from digits.settings import Settings
from digits.store import Store, write_whole

# The only classes that a record may name: nothing else is ever made from what lies on the disk.
CLASSES: Mapping[Kind, type[Reference]] = {
    cls.kind: cls
    for cls in (
        references.DatasetRef,
        references.ValidationRef,
        references.ArraysRef,
        references.ModelRef,
        references.EvaluationRef,
        references.ReportRef,
    )
}


class StepKey(Frozen):
    """What a step's output depends on; `digest` of it all is the cache key."""

    step: str
    inputs: dict[str, Any]
    code: dict[str, str]
    libraries: dict[str, str]

    @property
    def digest(self) -> str:
        """The cache key."""
        return canonical_digest(self.model_dump(mode="json"))


class Record(Frozen):
    """What the cache knows of one executed step: what it made, from what, and in which run."""

    format: int = 1
    key: StepKey
    kind: Kind
    value: dict[str, Any]
    run_id: str
    run_name: str
    created: AwareDatetime

    @property
    def reference(self) -> Reference:
        """The value as the step returned it."""
        return CLASSES[self.kind].model_validate_json(json.dumps(self.value))

    @property
    def label(self) -> str:
        """The step, and the model where it is about one."""
        model = self.value.get("model")
        return f"{self.key.step} {model}" if model else self.key.step


def canonical_digest(value: Any) -> str:
    """SHA-256 of a JSON value in the one form that equal values share."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Records:
    """The records on disk, under `artifacts/cache/records`.

    `values` is where Prefect keeps its own copies of the values, which nothing here relies on.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._root = settings.artifacts_dir / "cache" / "records"
        self.values = settings.artifacts_dir / "cache" / "values"
        self._store = store

    def write(self, key: StepKey, value: Reference, *, run_id: str, run_name: str) -> None:
        """Record that this run made `value` under `key`."""
        record = Record(
            key=key,
            kind=value.kind,
            value=value.model_dump(mode="json"),
            run_id=run_id,
            run_name=run_name,
            created=datetime.now(UTC),
        )
        body = record.model_dump(mode="json")
        sealed = {"digest": canonical_digest(body), "record": body}
        write_whole(self.path(key.digest), json.dumps(sealed, indent=1).encode())

    def read(self, key: str) -> Record | None:
        """The record under `key`; None where there is none. Raises DamagedError."""
        path = self.path(key)
        try:
            sealed = json.loads(path.read_bytes())
            if canonical_digest(sealed["record"]) != sealed["digest"]:
                raise DamagedError(f"{path} was altered")
            record = Record.model_validate_json(json.dumps(sealed["record"]))
            _ = record.reference
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{path} is not a record of the cache") from error
        if record.key.digest != key:
            raise DamagedError(f"{path} is the record of another key")
        return record

    def verified(self, key: str) -> Record | None:
        """The record under `key` after every byte that its value refers to was found whole.

        None where nothing is recorded. Raises DamagedError saying what is gone or altered.
        """
        record = self.read(key)
        if record is not None:
            self._store.verify(record.reference)
        return record

    def all(self) -> Iterator[Record]:
        """All readable records."""
        for path in self._root.glob("*.json"):
            with contextlib.suppress(DamagedError):
                record = self.read(path.stem)
                if record is not None:
                    yield record

    def of_step(self, step: str) -> Iterator[Record]:
        """All readable records of one step."""
        return (record for record in self.all() if record.key.step == step)

    def path(self, key: str) -> Path:
        """Where the record under `key` lies."""
        return self._root / f"{key}.json"
