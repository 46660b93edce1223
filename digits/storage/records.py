"""The cache's records: for each key, which step made what, from what, in which run.

One sealed JSON file a key. A record is believed only after every byte that it speaks of was
checked: its own, and those of the bundle that its value refers to.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ValidationError

from digits.errors import DamagedError
from digits.settings import Settings
from digits.storage.files import write_whole
from digits.storage.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    Frozen,
    ModelRef,
    Reference,
    ReportRef,
    ValidationRef,
)
from digits.storage.seals import seal, unseal
from digits.storage.store import Store

# What each step makes. Nothing else is ever made from what lies on the disk.
RESULTS: Mapping[str, type[Reference]] = {
    "ingest": DatasetRef,
    "validate": ValidationRef,
    "normalize": ArraysRef,
    "train": ModelRef,
    "evaluate": EvaluationRef,
    "report": ReportRef,
}
KEY = re.compile(r"[0-9a-f]{64}")


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
    """What the cache knows of one executed step: what it made, from what, where and in which run.

    `processor` is no part of the key: a result is used on other machines as well. It is empty in
    records from before it was kept.
    """

    format: Literal[1] = 1
    key: StepKey
    value: dict[str, Any]
    processor: str = ""
    run_id: str
    run_name: str
    created: AwareDatetime

    @property
    def reference(self) -> Reference:
        """The value as the step returned it."""
        made = RESULTS.get(self.key.step)
        if made is None:
            raise DamagedError(f"there is no step {self.key.step!r}")
        return made.model_validate(self.value)

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
        self.root = settings.artifacts_dir / "cache" / "records"
        self.values = settings.artifacts_dir / "cache" / "values"
        self._store = store

    def write(
        self, key: StepKey, value: Reference, *, run_id: str, run_name: str, processor: str = ""
    ) -> None:
        """Record that this run made `value` under `key`. Raises OSError when the disk refuses."""
        record = Record(
            key=key,
            value=value.model_dump(mode="json"),
            processor=processor,
            run_id=run_id,
            run_name=run_name,
            created=datetime.now(UTC),
        )
        write_whole(self.path(key.digest), seal(record.model_dump(mode="json")))

    def read(self, key: str) -> Record | None:
        """The record under `key`; None where there is none. Raises DamagedError."""
        if not KEY.fullmatch(key):
            return None
        path = self.path(key)
        try:
            record = Record.model_validate_json(unseal(path.read_bytes())[0])
            _ = record.reference
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
        except DamagedError as error:
            raise DamagedError(f"{path} was altered: {error}") from error
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DamagedError(f"{path} is not a record of the cache: {problem}") from error
        if record.key.digest != key:
            raise DamagedError(f"{path} is the record of another key")
        return record

    def verified(self, key: str) -> Record | None:
        """The record under `key` after every byte that its value refers to was found whole.

        None where nothing is recorded. Raises DamagedError saying what is gone or altered. The
        record counts as used now, so that garbage collection keeps what is in use.
        """
        record = self.read(key)
        if record is not None:
            self._store.verify(record.reference)
            with contextlib.suppress(OSError):
                os.utime(self.path(key))
        return record

    def all(self) -> Iterator[Record]:
        """All readable records, the last used first."""
        used = {}
        for path in self.root.glob("*.json"):
            with contextlib.suppress(OSError):
                used[path.stem] = path.stat().st_mtime_ns
        for key in sorted(used, key=lambda key: (-used[key], key)):
            with contextlib.suppress(DamagedError):
                record = self.read(key)
                if record is not None:
                    yield record

    def of_step(self, step: str) -> Iterator[Record]:
        """All readable records of one step, the last used first."""
        return (record for record in self.all() if record.key.step == step)

    def path(self, key: str) -> Path:
        """Where the record under `key` lies."""
        return self.root / f"{key}.json"
