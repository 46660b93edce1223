"""What model versions and recent records need, wherever it lies: garbage collection keeps it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from digits.registry.ledger import Entry, ModelVersion, all_ledgers, champion_of
from digits.settings import Settings
from digits.storage.lineage import LineageRef, read_lineage
from digits.storage.records import Record
from digits.storage.references import Kind, Reference
from digits.storage.store import Store

DATA_STEPS: Mapping[str, Kind] = {"ingest": "datasets", "normalize": "arrays"}
"""The steps of a lineage that made a model version's data, and their bundles."""

GRACE = timedelta(hours=24)
# Records are written again after six hours, so less would take what a run has just begun to use.
MIN_GRACE_HOURS = 12

History = Sequence[Entry]
"""The lines of one ledger."""


class Policy(NamedTuple):
    """What to keep: see digits.registry.garbage.collect."""

    keep_records: int
    refused_days: int | None = None
    grace: timedelta = GRACE


def histories(settings: Settings) -> list[History]:
    """Read all ledgers. Raises LedgerError if any is corrupted."""
    return [ledger.entries() for ledger in all_ledgers(settings)]


def kept_records(
    records: Iterable[Record], ledgers: Sequence[History], keep: int
) -> Iterator[Record]:
    """Yield the records to keep of `records`, which are ordered by their last use, latest first.

    These are the first `keep` of each step and model, those that made what a ledger names, the
    latest page of each promotion, and the trainings of the first `keep` sweeps.
    """
    records = list(records)
    compared = _compared(records, keep)
    versions = _versions(ledgers)
    makers = {made.made_by for version in versions for made in (version.model, version.evaluation)}
    makers |= {form.made_by for form in _forms(ledgers)}
    unshown = {version.model.digest for version in versions}
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.label] += 1
        shown = _shown(record) & unshown
        unshown -= shown
        is_needed = record.key.digest in makers or record.reference.digest in compared
        if counts[record.label] <= keep or is_needed or shown:
            yield record


def named_bundles(ledgers: Sequence[History]) -> set[str]:
    """Return the names of the bundles of all model versions: see Reference.name."""
    names = {bundle.name for version in _versions(ledgers) for bundle in bundles_of(version)}
    return names | {form.name for form in _forms(ledgers)}


def bundles_of(version: ModelVersion) -> tuple[Reference, ...]:
    """Return what a model version consists of."""
    return (version.model, version.evaluation, LineageRef(digest=version.lineage))


def data_of_champions(ledgers: Sequence[History], store: Store) -> set[str]:
    """Return the names of the data behind each champion, for exports and reproductions.

    Raises DamagedError if a lineage is missing or corrupted.
    """
    names = set()
    for entries in ledgers:
        champion = champion_of(list(entries))
        lineage = read_lineage(champion.lineage, store) if champion else {}
        names |= {
            f"{kind}/{lineage[step].output}" for step, kind in DATA_STEPS.items() if step in lineage
        }
    return names


def _versions(ledgers: Sequence[History]) -> list[ModelVersion]:
    return [entry.version for entries in ledgers for entry in entries if entry.version]


def _forms(ledgers: Sequence[History]) -> set[Reference]:
    return {form for entries in ledgers for entry in entries for form in entry.forms}


def _shown(record: Record) -> set[str]:
    """The digest of the model whose promotion a report page shows, if any."""
    verdict = record.key.inputs.get("verdict")
    if isinstance(verdict, dict) and verdict.get("outcome") == "promoted":
        return {str(verdict.get("candidate_digest"))}
    return set()


def _compared(records: Sequence[Record], keep: int) -> set[str]:
    """The digests of the models and scores that the pages of the first `keep` sweeps compare."""
    pages = [record for record in records if record.key.step == "compare"]
    return {
        digest
        for page in pages[:keep]
        for pair in page.key.inputs.get("scored", ())
        for digest in pair
    }
