"""The ledger: every decision ever taken about a dataset's champion, one line each, append-only.

The champion is what the last line says: there is no second place that could disagree, and one
flushed append switches it.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from digits.errors import DigitsError, LedgerError, UsageError
from digits.settings import Settings
from digits.storage.chain import Chain, Line, Lines
from digits.storage.locks import hold
from digits.storage.references import Digest, EvaluationRef, Frozen, ModelRef

FORMAT: Literal[2] = 2
CHAIN_SUFFIXES = frozenset({".jsonl", ".head"})


class ModelVersion(Frozen):
    """A model that became champion: enough to score it again, prove it and make it again."""

    number: int
    model: ModelRef
    evaluation: EvaluationRef
    lineage: Digest


class Verdict(Frozen):
    """What was decided about a candidate and why: the facts, without the moment and the run.

    `champion_score` is the champion's on the same test set. `discordant` counts the test images
    that only the champion, and only the candidate, got right; `p_value` is the exact McNemar test
    on them. All four are empty where there was no champion on the same test set to compare with.
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

    # On the disk a verdict has always been called "judgement".
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    format: Literal[2] = FORMAT
    number: int
    time: AwareDatetime
    run: str
    dataset: str
    data_digest: str
    verdict: Annotated[Verdict, Field(alias="judgement")]
    version: ModelVersion | None = None
    previous: str = ""
    digest: str = ""


class Ledger:
    """The decisions about one dataset's champion."""

    def __init__(self, dataset: str, settings: Settings) -> None:
        self.dataset = dataset
        self.path = _folder(settings) / f"{dataset}.jsonl"
        self.chain = Chain(self.path)
        self._lock = settings.artifacts_dir / "locks" / f"ledger-{dataset}.lock"

    def entries(self) -> list[Entry]:
        """All lines, oldest first. Raises LedgerError at the first that is not as written."""
        return self._parsed(self.chain.read())

    def versions(self) -> dict[int, ModelVersion]:
        """Every version that ever was champion, by number."""
        return versions_of(self.entries())

    def champion(self) -> ModelVersion | None:
        """The present champion; None before the first promotion."""
        return champion_of(self.entries())

    @contextlib.contextmanager
    def deciding(self) -> Iterator["Deciding"]:
        """Hold the ledger while a decision is read, taken and appended: no other comes between."""
        with contextlib.ExitStack() as stack:
            try:
                waiting = f"waiting for another decision about {self.dataset}"
                stack.enter_context(hold(self._lock, waiting))
            except OSError as error:
                raise _unwritable(str(self._lock), error) from error
            lines = self.chain.read()
            yield Deciding(self, self._parsed(lines), lines)

    def _parsed(self, lines: Lines) -> list[Entry]:
        entries: list[Entry] = []
        known: set[int] = set()
        for number, line in enumerate(lines.lines, start=1):
            entry = self._parse(line, number)
            problem = _problem(entry, entries, known, self.dataset)
            if problem is not None:
                raise self.chain.problem(number, problem)
            entries.append(entry)
        return entries

    def _parse(self, line: Line, number: int) -> Entry:
        try:
            return Entry.model_validate_json(line.text)
        except ValidationError as error:
            found = _format(line.text)
            if isinstance(found, int) and found != FORMAT:
                raise LedgerError(
                    f"{self.path} line {number} has format {found}, this version of digits reads "
                    f"{FORMAT}: use the version that wrote it"
                ) from error
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            what = f"{place}: {first['msg']}" if place else first["msg"]
            raise self.chain.problem(number, f"is damaged: {what}") from error


class Deciding:
    """The ledger as it stands while it is held; `append` adds the decision."""

    def __init__(self, ledger: Ledger, entries: list[Entry], lines: Lines) -> None:
        self._ledger, self.entries, self._lines = ledger, entries, lines

    @property
    def champion(self) -> ModelVersion | None:
        """The champion at this moment."""
        return champion_of(self.entries)

    def append(
        self, verdict: Verdict, *, run: str, data_digest: str, version: ModelVersion | None = None
    ) -> Entry:
        """Add one line, flushed to the disk before this returns; all of it or nothing.

        Raises DigitsError when the disk refuses: the champion is then as it was.
        """
        entry = Entry(
            number=len(self.entries) + 1,
            time=datetime.now(UTC),
            run=run,
            dataset=self._ledger.dataset,
            data_digest=data_digest,
            verdict=verdict,
            version=version,
        )
        fields = entry.model_dump(mode="json", exclude={"previous", "digest"})
        previous = self._lines.last_digest
        try:
            self._lines = self._ledger.chain.append(fields, self._lines)
        except OSError as error:
            raise _unwritable(str(self._ledger.path), error) from error
        links = {"previous": previous, "digest": self._lines.last_digest}
        self.entries.append(entry.model_copy(update=links))
        return self.entries[-1]


class Withdrawal(NamedTuple):
    """A version that a rollback took down, and when."""

    number: int
    time: datetime


def all_ledgers(settings: Settings) -> list[Ledger]:
    """The ledgers of all datasets that anything was decided about, lost ones included."""
    # The head of a ledger that is lost is still there: reading it then says so.
    names = {path.stem for path in _folder(settings).glob("*.*") if path.suffix in CHAIN_SUFFIXES}
    return [Ledger(name, settings) for name in sorted(names)]


def versions_of(entries: list[Entry]) -> dict[int, ModelVersion]:
    """Every version in a history, by number."""
    return {entry.version.number: entry.version for entry in entries if entry.version}


def champion_of(entries: list[Entry]) -> ModelVersion | None:
    """The version that the last line of a history leaves as champion."""
    after = entries[-1].verdict.champion_after if entries else None
    return None if after is None else versions_of(entries)[after]


def standing_verdict(entries: list[Entry], champion: ModelVersion) -> Verdict:
    """The judgement that made a version champion for the first time."""
    return next(
        entry.verdict
        for entry in entries
        if entry.version and entry.version.number == champion.number
    )


def withdrawn(entries: list[Entry]) -> dict[str, Withdrawal]:
    """Models that a rollback took down, by digest, unless a later one put them back.

    A rollback takes down the champion of that moment, and all that was promoted since the version
    that it goes back to: going back over two promotions undoes both.
    """
    known: dict[int, str] = {}
    down: dict[str, Withdrawal] = {}
    for entry in entries:
        if entry.version:
            known[entry.version.number] = entry.version.model.digest
        before, after = entry.verdict.champion_before, entry.verdict.champion_after
        if after is None:
            continue
        if entry.verdict.outcome == "rolled back":
            for number, digest in known.items():
                if number > after or number == before:
                    down.setdefault(digest, Withdrawal(number, entry.time))
        if before != after:
            down.pop(known[after], None)
    return down


def find_version(entries: list[Entry], number: int, dataset: str) -> ModelVersion:
    """A version by number; UsageError names those that there are."""
    known = versions_of(entries)
    if number not in known:
        listed = ", ".join(str(known_number) for known_number in known) or "none yet"
        raise UsageError(f"{dataset} has no version {number}: there is {listed}")
    return known[number]


def _problem(entry: Entry, before: list[Entry], known: set[int], dataset: str) -> str | None:
    """Why a line cannot follow those before it; adds the version that begins with it to `known`."""
    if entry.number != len(before) + 1:
        return f"says that it is line {entry.number}"
    if entry.dataset != dataset:
        return f"is about {entry.dataset}, not {dataset}"
    champion = before[-1].verdict.champion_after if before else None
    verdict = entry.verdict
    if verdict.champion_before != champion:
        return f"says that the champion was {verdict.champion_before}, but it was {champion}"
    if entry.version:
        if entry.version.number != max(known, default=0) + 1:
            return f"begins version {entry.version.number}, but {len(known)} came before it"
        known.add(entry.version.number)
    if verdict.champion_after is not None and verdict.champion_after not in known:
        return f"makes version {verdict.champion_after} champion, which there is not"
    return None


def _folder(settings: Settings) -> Path:
    return settings.artifacts_dir / "ledger"


def _format(text: bytes) -> object:
    try:
        return json.loads(text)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _unwritable(path: str, error: OSError) -> DigitsError:
    return DigitsError(
        f"{path} cannot be written: {error.strerror}; the champion is as it was - make room or "
        "give write permission, then run again"
    )
