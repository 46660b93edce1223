"""Cache records: for each cache key, the step, its inputs, its result and the run that made it.

Each key has one sealed JSON file. A record is trusted only after all bytes have been checked: its
own, and those of the bundle it refers to.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from digits.errors import DamagedError
from digits.settings import Settings
from digits.storage.files import read_file, write_whole
from digits.storage.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    Frozen,
    ModelRef,
    OnnxRef,
    Reference,
    ReportRef,
    ValidationRef,
)
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.collectors import wait_for_collectors
from digits.storage.remote.objects import Listed, Object, Objects
from digits.storage.seals import seal, unseal
from digits.storage.store import Store

# The result type of each step. Nothing else is ever constructed from files on disk.
RESULTS: Mapping[str, type[Reference]] = {
    "ingest": DatasetRef,
    "validate": ValidationRef,
    "normalize": ArraysRef,
    "hold_out": ArraysRef,
    "train": ModelRef,
    "evaluate": EvaluationRef,
    "convert": OnnxRef,
    "report": ReportRef,
    "compare": ReportRef,
}
KEY = re.compile(r"[0-9a-f]{64}")
# A record that is used is written again after this time, so that it is kept from garbage
# collection, which never takes a younger one.
REFRESH_AFTER = timedelta(hours=6)


class StepKey(Frozen):
    """Everything a step's output depends on; its `digest` is the cache key."""

    step: str
    inputs: dict[str, Any]
    code: dict[str, str]
    libraries: dict[str, str]
    variables: dict[str, str] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The cache key."""
        # As before the field was introduced, so that results from then are still found.
        without = None if self.variables else {"variables"}
        return canonical_digest(self.model_dump(mode="json", exclude=without))


class Record(Frozen):
    """One executed step: its result, its inputs, the processor, environment variables and the run.

    `processor` and `variables` (digits.training.variables) are not part of the key, because results
    are reused across machines. They are empty and None in records from before their introduction.
    """

    format: Literal[1] = 1
    key: StepKey
    value: dict[str, Any]
    processor: str = ""
    variables: dict[str, str] | None = None
    run_id: str
    run_name: str
    created: AwareDatetime

    @property
    def reference(self) -> Reference:
        """The step's return value."""
        made = RESULTS.get(self.key.step)
        if made is None:
            raise DamagedError(f"unknown step {self.key.step!r}")
        return made.model_validate(self.value)

    @property
    def label(self) -> str:
        """The step's name, followed by the model if the result has one."""
        model = self.value.get("model")
        return f"{self.key.step} {model}" if model else self.key.step


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON form of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Records:
    """The records on disk, under `artifacts/cache/records`, or in DIGITS_STORE, under `records`.

    `values` is where earlier releases let Prefect keep copies of the values; nothing reads them.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.root = settings.artifacts_dir / "cache" / "records"
        self._objects = objects_of(settings)
        self.values = settings.artifacts_dir / "cache" / "values"
        self._store = store

    def write(
        self,
        key: StepKey,
        value: Reference,
        *,
        run_id: str,
        run_name: str,
        processor: str = "",
        variables: dict[str, str] | None = None,
    ) -> None:
        """Record that this run made `value` under `key`. Raises OSError if writing fails."""
        record = Record(
            key=key,
            value=value.model_dump(mode="json"),
            processor=processor,
            variables=variables,
            run_id=run_id,
            run_name=run_name,
            created=datetime.now(UTC),
        )
        content = seal(record.model_dump(mode="json"))
        if self._objects:
            self._write(self._objects, _name(key.digest), content)
        else:
            write_whole(self.path(key.digest), content)

    def read(self, key: str) -> Record | None:
        """Return the record of `key`, or None if there is none. Raises DamagedError."""
        if not KEY.fullmatch(key):
            return None
        found = self._find(key)
        return None if found is None else self._parsed(found, key)

    def recent(self, key: str) -> Record | None:
        """Return the record of `key` as a step of this run has just found it, as `read` does.

        A store is asked only if this process has not read the record in the last minute.
        """
        if self._objects is None or not KEY.fullmatch(key):
            return self.read(key)
        found = self._objects.recent(_name(key))
        return None if found is None else self._parsed(found, key)

    def verified(self, key: str) -> Record | None:
        """Return the record of `key` after checking every byte of the bundle it refers to.

        Returns None if there is no record. Raises DamagedError naming the missing or corrupted
        file. Marks the record as just used, which protects it from garbage collection.
        """
        if not KEY.fullmatch(key):
            return None
        found = self._find(key)
        if found is None:
            return None
        record = self._parsed(found, key)
        if self._objects:
            self._protect(self._objects, record, found)
        self._store.verify(record.reference)
        if self._objects is None:
            with contextlib.suppress(OSError):
                os.utime(self.path(key))
        return record

    def all(self) -> Iterator[Record]:
        """Iterate over all readable records, most recently used first."""
        if self._objects:
            yield from (record for _, record in self.in_store() if record is not None)
            return
        used = {}
        for path in self.root.glob("*.json"):
            with contextlib.suppress(OSError):
                used[path.stem] = path.stat().st_mtime_ns
        for key in sorted(used, key=lambda key: (-used[key], key)):
            with contextlib.suppress(DamagedError):
                record = self.read(key)
                if record is not None:
                    yield record

    def in_store(self) -> Iterator[tuple[Listed, Record | None]]:
        """Iterate over the records in DIGITS_STORE, most recently used first; None: unreadable."""
        if self._objects is None:
            return
        found = self._objects.listed("records/")
        listed = [one for one in found if KEY.fullmatch(_key_of(one.name))]
        listed.sort(key=lambda one: (-one.modified.timestamp(), one.name))
        for one, content in zip(listed, self._objects.read_all(listed), strict=True):
            record = None
            with contextlib.suppress(DamagedError):
                if content is not None:
                    record = self._parsed(Object(content, one.modified), _key_of(one.name))
            yield one, record

    def of_step(self, step: str) -> Iterator[Record]:
        """Iterate over the readable records of one step, most recently used first."""
        return (record for record in self.all() if record.key.step == step)

    def path(self, key: str) -> Path:
        """Return the path of the record of `key`."""
        return self.root / f"{key}.json"

    def _find(self, key: str) -> Object | None:
        if self._objects:
            return self._objects.read(_name(key))
        path = self.path(key)
        try:
            return Object(read_file(path), datetime.now(UTC))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from error

    def _parsed(self, found: Object, key: str) -> Record:
        place = f"{self._objects.address}/{_name(key)}" if self._objects else self.path(key)
        try:
            record = Record.model_validate_json(unseal(found.content)[0])
            _ = record.reference
        except DamagedError as error:
            raise DamagedError(f"{place} is corrupted: {error}") from error
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DamagedError(f"{place} is not a valid cache record: {problem}") from error
        if record.key.digest != key:
            raise DamagedError(f"{place} contains the record of another key")
        return record

    def _protect(self, objects: Objects, record: Record, found: Object) -> None:
        """Keep a record and its bundle from garbage collection.

        Before the bundle is verified: afterwards it could be deleted while nothing protects it.
        """
        if abs(datetime.now(UTC) - found.modified) > REFRESH_AFTER:
            # Writing the same again is all that an object store has for it.
            self._write(objects, _name(record.key.digest), found.content, record.reference.name)

    def _write(self, objects: Objects, name: str, content: bytes, *protected: str) -> None:
        objects.write(name, content)
        if wait_for_collectors(objects, name, *protected):
            objects.write(name, content)


def _name(key: str) -> str:
    """The name of a record in the store."""
    return f"records/{key}.json"


def _key_of(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")
