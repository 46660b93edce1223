"""The ledger: an append-only file with one line per decision about a dataset's champion.

The last line alone determines the champion: nothing else could disagree with it, and one flushed
append replaces the champion.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from digits.errors import DigitsError, LedgerError, UsageError
from digits.settings import Settings
from digits.storage.chain import Line, Lines
from digits.storage.locks import hold
from digits.storage.references import Digest, EvaluationRef, Frozen, ModelRef, OnnxRef
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.chain import chain_at

# Format 3 added `forms`, which older versions of digits would take for corruption.
FORMAT: Literal[3] = 3
READABLE = (2, 3)
CHAIN_SUFFIXES = frozenset({".jsonl", ".head"})


class ModelVersion(Frozen):
    """A model that became champion, with all that is needed to score, verify and reproduce it."""

    number: int
    model: ModelRef
    evaluation: EvaluationRef
    lineage: Digest


class Verdict(Frozen):
    """The facts of one decision about a candidate, without its time and run.

    `champion_score` is the champion's score on the same test set. `discordant` counts the test
    images that only the champion, and only the candidate, got right; `p_value` is the exact McNemar
    test on them. These three and `champion_accuracy` are None if there was no champion to compare
    with on the same test set.
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
    """One line of the ledger. `version` is set if the decision created a model version.

    `forms` are the ONNX forms of the version that is champion after this line, where they were not
    recorded before: that of its own model, then those of the other models of the same run.
    """

    # In the file format, the verdict is called "judgement".
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    format: Literal[2, 3] = FORMAT
    number: int
    time: AwareDatetime
    run: str
    dataset: str
    data_digest: str
    verdict: Annotated[Verdict, Field(alias="judgement")]
    version: ModelVersion | None = None
    forms: tuple[OnnxRef, ...] = ()
    previous: str = ""
    digest: str = ""


class Ledger:
    """The ledger of one dataset."""

    def __init__(self, dataset: str, settings: Settings) -> None:
        self.dataset = dataset
        # Where its lines are unless they are in DIGITS_STORE.
        self.path = settings.artifacts_dir / "ledger" / f"{dataset}.jsonl"
        self.chain = chain_at(self.path, f"ledger/{dataset}", settings)
        self._lock = settings.artifacts_dir / "locks" / f"ledger-{dataset}.lock"

    def entries(self) -> list[Entry]:
        """Read all lines, oldest first. Raises LedgerError for the first invalid one."""
        return self._parsed(self.chain.read())

    def versions(self) -> dict[int, ModelVersion]:
        """Return every model version that was ever champion, by number."""
        return versions_of(self.entries())

    def champion(self) -> ModelVersion | None:
        """Return the current champion, or None before the first promotion."""
        return champion_of(self.entries())

    @contextlib.contextmanager
    def deciding(self) -> Iterator["Deciding"]:
        """Lock the ledger to read it, decide and append, excluding other decisions."""
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
        known: dict[int, ModelVersion] = {}
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
            if isinstance(found, int) and found not in READABLE:
                raise LedgerError(
                    f"{self.chain.place} line {number} has format {found} (this version of digits "
                    f"reads {' and '.join(map(str, READABLE))}); use the version that wrote it"
                ) from error
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            what = f"{place}: {first['msg']}" if place else first["msg"]
            raise self.chain.problem(number, f"is invalid: {what}") from error


class Deciding:
    """A locked ledger; `append` adds the decision."""

    def __init__(self, ledger: Ledger, entries: list[Entry], lines: Lines) -> None:
        self._ledger, self.entries, self._lines = ledger, entries, lines

    @property
    def champion(self) -> ModelVersion | None:
        """The champion, including any decision appended under this lock."""
        return champion_of(self.entries)

    def append(
        self,
        verdict: Verdict,
        *,
        run: str,
        data_digest: str,
        version: ModelVersion | None = None,
        forms: Sequence[OnnxRef] = (),
    ) -> Entry:
        """Append one line atomically and flush it to disk.

        Raises DigitsError if writing fails, and LostRaceError if another machine has decided
        meanwhile; the champion is then unchanged.
        """
        entry = Entry(
            number=len(self.entries) + 1,
            time=datetime.now(UTC),
            run=run,
            dataset=self._ledger.dataset,
            data_digest=data_digest,
            verdict=verdict,
            version=version,
            forms=tuple(forms),
        )
        fields = entry.model_dump(mode="json", exclude={"previous", "digest"})
        previous = self._lines.last_digest
        try:
            self._lines = self._ledger.chain.append(fields, self._lines)
        except OSError as error:
            raise _unwritable(self._ledger.chain.place, error) from error
        links = {"previous": previous, "digest": self._lines.last_digest}
        self.entries.append(entry.model_copy(update=links))
        return self.entries[-1]


class Withdrawal(NamedTuple):
    """A model version withdrawn by a rollback, and when."""

    number: int
    time: datetime


def all_ledgers(settings: Settings) -> list[Ledger]:
    """Return the ledgers of all datasets with decisions, including those whose file is missing."""
    objects = objects_of(settings)
    if objects is not None:
        names = set(objects.folders("ledger"))
    else:
        # A missing ledger may still have its head file; reading the ledger then reports the loss.
        files = (settings.artifacts_dir / "ledger").glob("*.*")
        names = {path.stem for path in files if path.suffix in CHAIN_SUFFIXES}
    return [Ledger(name, settings) for name in sorted(names)]


def versions_of(entries: list[Entry]) -> dict[int, ModelVersion]:
    """Return every model version in a history, by number."""
    return {entry.version.number: entry.version for entry in entries if entry.version}


def champion_of(entries: list[Entry]) -> ModelVersion | None:
    """Return the champion after the last line of a history, or None if there is none."""
    after = entries[-1].verdict.champion_after if entries else None
    return None if after is None else versions_of(entries)[after]


def forms_of(entries: Sequence[Entry], number: int) -> tuple[OnnxRef, ...]:
    """Return the ONNX forms of a model version: its own first; empty if none are recorded."""
    recorded = (
        entry.forms
        for entry in reversed(entries)
        if entry.forms and entry.verdict.champion_after == number
    )
    return next(recorded, ())


def standing_verdict(entries: list[Entry], champion: ModelVersion) -> Verdict:
    """Return the verdict that first made a model version champion."""
    return next(
        entry.verdict
        for entry in entries
        if entry.version and entry.version.number == champion.number
    )


def withdrawn(entries: list[Entry]) -> dict[str, Withdrawal]:
    """Return the models withdrawn by a rollback and not restored by a later one, by digest.

    A rollback withdraws the champion it replaces and every version promoted after its target, so
    rolling back over two promotions undoes both.
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
    """Return a model version by number. Raises UsageError listing the known versions."""
    known = versions_of(entries)
    if number not in known:
        listed = ", ".join(str(known_number) for known_number in known) or "none yet"
        raise UsageError(f"{dataset} has no version {number} (versions: {listed})")
    return known[number]


def _problem(
    entry: Entry, before: list[Entry], known: dict[int, ModelVersion], dataset: str
) -> str | None:
    """Why a line cannot follow those before it, or None; adds its new version to `known`."""
    if entry.number != len(before) + 1:
        return f"is numbered {entry.number}"
    if entry.dataset != dataset:
        return f"belongs to {entry.dataset} (expected {dataset})"
    champion = before[-1].verdict.champion_after if before else None
    verdict = entry.verdict
    if verdict.champion_before != champion:
        return f"says the previous champion was {verdict.champion_before} (expected {champion})"
    if entry.version:
        expected = max(known, default=0) + 1
        if entry.version.number != expected:
            return f"adds version {entry.version.number} (expected {expected})"
        known[entry.version.number] = entry.version
    if verdict.champion_after is not None and verdict.champion_after not in known:
        return f"promotes version {verdict.champion_after}, which does not exist"
    return _problem_of_forms(entry, known)


def _problem_of_forms(entry: Entry, known: dict[int, ModelVersion]) -> str | None:
    if not entry.forms:
        return None
    champion = known.get(entry.verdict.champion_after or 0)
    found, expected = entry.forms[0].model_digest, champion.model.digest if champion else "none"
    if found == expected:
        return None
    return f"has the ONNX form of model {found[:12]} (expected {expected[:12]})"


def _format(text: bytes) -> object:
    try:
        return json.loads(text)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _unwritable(path: str, error: OSError) -> DigitsError:
    return DigitsError(
        f"{path} cannot be written: {error.strerror}; the champion is unchanged; free some space "
        "or fix the permissions, then run again"
    )
