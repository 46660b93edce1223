"""The ledger: every decision ever taken about a dataset's champion, one line each, append-only.

A line carries a digest over itself and the digest of the line before, so that an edit anywhere in
the history is noticed. The champion is what the last line says: there is no second place that
could disagree, and one flushed append switches it.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, ValidationError

from digits.errors import DigitsError, LedgerError, UsageError
from digits.locks import hold
from digits.references import EvaluationRef, Frozen, ModelRef
from digits.settings import Settings

logger = logging.getLogger(__name__)

FORMAT = 2


class Version(Frozen):
    """A model that became champion: enough to score it again, prove it and make it again."""

    number: int
    model: ModelRef
    evaluation: EvaluationRef
    lineage: str


class Judgement(Frozen):
    """What was decided about a candidate and why: the facts, without the moment and the run.

    `champion_score` is the champion's on the same test set. `discordant` counts the test images
    that only the champion, and only the candidate, got right; `p_value` is the exact McNemar test
    on them. All four are empty where there was no champion to compare with.
    """

    outcome: Literal["promoted", "kept", "unchanged", "rolled back"]
    reason: str
    rule: str
    candidate: str
    candidate_digest: str
    candidate_accuracy: float
    champion_accuracy: float | None = None
    champion_score: EvaluationRef | None = None
    champion_before: int | None = None
    champion_after: int | None = None
    discordant: tuple[int, int] | None = None
    p_value: float | None = None


class Entry(Frozen):
    """One line of the ledger. `version` is there where a new version begins."""

    format: int = FORMAT
    number: int
    time: AwareDatetime
    run: str
    dataset: str
    data_digest: str
    judgement: Judgement
    version: Version | None = None
    previous: str = ""
    digest: str = ""


class Ledger:
    """The decisions about one dataset's champion."""

    def __init__(self, dataset: str, settings: Settings) -> None:
        self.dataset = dataset
        self.path = settings.artifacts_dir / "ledger" / f"{dataset}.jsonl"
        self._lock = settings.artifacts_dir / "locks" / f"ledger-{dataset}.lock"

    def entries(self) -> list[Entry]:
        """All lines, oldest first. Raises LedgerError at the first that is not as written."""
        return self._read()[0]

    def versions(self) -> dict[int, Version]:
        """Every version that ever was champion, by number."""
        return versions_of(self.entries())

    def champion(self) -> Version | None:
        """The present champion; None before the first promotion."""
        return champion_of(self.entries())

    @contextlib.contextmanager
    def deciding(self) -> Iterator["Deciding"]:
        """Hold the ledger while a decision is read, taken and appended: no other comes between."""
        with hold(self._lock, f"waiting for another decision about {self.dataset}"):
            entries, size = self._read()
            yield Deciding(self, entries, size)

    def _read(self) -> tuple[list[Entry], int]:
        """The entries, and how many bytes of the file they take."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be read: {error.strerror}") from error
        # A line without its end was being written when its process died: it was never in force.
        whole = content[: content.rfind(b"\n") + 1]
        entries: list[Entry] = []
        for number, line in enumerate(whole.splitlines(), start=1):
            entries.append(self._parse(line, number, entries[-1].digest if entries else ""))
        return entries, len(whole)

    def _parse(self, line: bytes, number: int, previous: str) -> Entry:
        where = f"{self.path} line {number}"
        advice = (
            "nothing was changed; put the file back from a copy, or move it aside to begin a new "
            "history (the models stay in artifacts/models)"
        )
        try:
            fields = json.loads(line)
            entry = Entry.model_validate(_upgraded(fields))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise LedgerError(f"{where} is damaged: {place}: {first['msg']}; {advice}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LedgerError(f"{where} is damaged: {error}; {advice}") from error
        if entry.number != number:
            raise LedgerError(f"{where} says that it is line {entry.number}; {advice}")
        if fields["format"] == 1 and not previous:
            return entry
        if entry.digest != _digest(fields):
            raise LedgerError(f"{where} was altered: its digest does not match it; {advice}")
        if entry.previous != previous:
            raise LedgerError(f"{where} does not follow the line before it; {advice}")
        return entry


class Deciding:
    """The ledger as it stands while it is held; `append` adds the decision."""

    def __init__(self, ledger: Ledger, entries: list[Entry], size: int) -> None:
        self._ledger, self.entries, self._size = ledger, entries, size

    @property
    def champion(self) -> Version | None:
        """The champion at this moment."""
        return champion_of(self.entries)

    def append(
        self, judgement: Judgement, *, run: str, data_digest: str, version: Version | None = None
    ) -> Entry:
        """Add one line, flushed to the disk before this returns; all of it or nothing."""
        fields = Entry(
            number=len(self.entries) + 1,
            time=datetime.now(UTC),
            run=run,
            dataset=self._ledger.dataset,
            data_digest=data_digest,
            judgement=judgement,
            version=version,
            previous=self.entries[-1].digest if self.entries else "",
        ).model_dump(mode="json")
        fields["digest"] = _digest(fields)
        self._write(json.dumps(fields, separators=(",", ":")).encode() + b"\n")
        self.entries.append(Entry.model_validate(fields))
        return self.entries[-1]

    def _write(self, line: bytes) -> None:
        path = self._ledger.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                if file.tell() != self._size:
                    logger.warning("%s: removed a line that a killed run left unfinished", path)
                    file.truncate(self._size)
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(self._size)
                    raise
        except OSError as error:
            raise DigitsError(
                f"{path} cannot be written: {error.strerror}; the champion is as it was - make "
                "room or give write permission, then run again"
            ) from error
        self._size += len(line)


def versions_of(entries: list[Entry]) -> dict[int, Version]:
    """Every version in a history, by number."""
    return {entry.version.number: entry.version for entry in entries if entry.version}


def champion_of(entries: list[Entry]) -> Version | None:
    """The version that the last line of a history leaves as champion."""
    after = entries[-1].judgement.champion_after if entries else None
    return None if after is None else versions_of(entries)[after]


def standing_judgement(entries: list[Entry], champion: Version) -> Judgement:
    """The judgement that made a version champion for the first time."""
    return next(
        entry.judgement
        for entry in entries
        if entry.version and entry.version.number == champion.number
    )


def withdrawn(entries: list[Entry]) -> dict[str, Entry]:
    """Models that a rollback took down, by digest, unless a later one put them back."""
    known = versions_of(entries)
    down: dict[str, Entry] = {}
    for entry in entries:
        before, after = entry.judgement.champion_before, entry.judgement.champion_after
        if entry.judgement.outcome == "rolled back" and before is not None:
            down[known[before].model.digest] = entry
        if after is not None and before != after:
            down.pop(known[after].model.digest, None)
    return down


def find_version(entries: list[Entry], number: int, dataset: str) -> Version:
    """A version by number; UsageError names those that there are."""
    known = versions_of(entries)
    if number not in known:
        listed = ", ".join(str(known_number) for known_number in known) or "none yet"
        raise UsageError(f"{dataset} has no version {number}: there is {listed}")
    return known[number]


def _digest(fields: dict[str, Any]) -> str:
    body = {name: value for name, value in fields.items() if name != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """A line of an older format as one of this format. Format 1 had no digests."""
    if fields["format"] not in (1, FORMAT):
        raise ValueError(
            f"it has format {fields['format']}, this version of digits reads 1 to {FORMAT}"
        )
    return fields
