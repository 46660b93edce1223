"""Adds new data: reads a batch, validates it against its dataset, and adds or quarantines it."""

import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from digits.datasets.defects import DefectError, refuse
from digits.datasets.growth import Growth
from digits.datasets.kept_batches import batch_digest, is_kept, keep_batch, sweep
from digits.datasets.versions import Change, Changing, DatasetVersions
from digits.errors import DataError, DigitsError, UsageError
from digits.intake.batch_files import BatchRows, of_files, read_rows
from digits.intake.batch_validation import validate_batch
from digits.intake.claims import (
    MAX_INTERRUPTIONS,
    Claim,
    are_claims_left,
    claim,
    put_all_back,
    unclaimed,
)
from digits.intake.contents import BatchFile, digests_of, list_files
from digits.intake.incoming import Addition, Entry, incoming_folder, waiting
from digits.intake.quarantine import set_aside
from digits.spec import DatasetSpec
from digits.storage.chain import decided_anew
from digits.storage.files import printable
from digits.storage.workspace import Workspace
from digits.validation.findings import ValidationOutcome

logger = logging.getLogger(__name__)


# What the names in a batch can cause; other errors of the operating system may pass.
FAULTS_OF_NAMES = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})


@dataclass(frozen=True)
class Arrival:
    """The files of a batch. If claimed, they disappear once the batch is added or refused."""

    paths: tuple[Path, ...]
    source: str
    """Where the batch came from, for messages and records."""
    claimed: Claim | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


def add_batch(paths: Sequence[Path], spec: DatasetSpec, workspace: Workspace) -> Addition:
    """Add the batch in these files, or quarantine a copy of them; the files stay where they are.

    Raises DataError if these files, or the dataset's own files, cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: not found; name the files or the folder of one batch")
        if workspace.settings.data_dir.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{path}: contains the data folder; name the folder of one batch")
    here = tuple(path.absolute() for path in paths)

    def add() -> Addition:
        with DatasetVersions(spec.name, workspace.settings).changing() as changing:
            return _add(Arrival(here, _source(here)), spec, changing, workspace)

    return decided_anew(add)


def add_all_incoming(spec: DatasetSpec, workspace: Workspace) -> Iterator[Addition]:
    """Add or quarantine the batches in the incoming folder, one after the other.

    A batch that the operating system does not let us read or move stays there, with a warning in
    the log. Raises LedgerError if the record of the dataset's versions is corrupted.
    """
    versions = DatasetVersions(spec.name, workspace.settings)
    incoming = incoming_folder(spec.name, workspace.settings)
    try:
        if are_claims_left(incoming):
            with versions.changing():
                put_all_back(incoming)
    except OSError as error:
        logger.warning("%s: cannot take up batches of a killed run: %s", incoming, error)
    for entry in waiting(spec.name, workspace.settings):
        addition = decided_anew(partial(_add_entry, entry, spec, versions, workspace))
        if addition is not None:
            yield addition


def _add_entry(
    entry: Entry, spec: DatasetSpec, versions: DatasetVersions, workspace: Workspace
) -> Addition | None:
    """Claim and add one batch; None if another process did."""
    try:
        with versions.changing() as changing:
            try:
                claimed = claim(entry.paths)
            except FileNotFoundError:
                return None
            try:
                arrival = Arrival(claimed.paths, _source(entry.paths), claimed)
                return _add(arrival, spec, changing, workspace)
            except BaseException:
                claimed.put_back()
                raise
    except (DataError, OSError) as error:
        reason = printable(unclaimed(str(error)))
        logger.warning("%s: left in the incoming folder: %s", entry.name, reason)
        return Addition(
            dataset=spec.name,
            source=_source(entry.paths),
            status="left",
            version=versions.current().number,
            reasons=(reason,),
        )


def _source(paths: Sequence[Path]) -> str:
    return printable(" and ".join(map(str, paths)))


def _add(arrival: Arrival, spec: DatasetSpec, changing: Changing, workspace: Workspace) -> Addition:
    sweep(changing.versions)
    known, growth, rows = None, Growth(), None
    try:
        files = _files_of(arrival)
        arrival = replace(arrival, digests=digests_of(files))
        rows, found = read_rows(arrival.paths, spec)
        if _files_of(arrival) != files:
            raise DataError(f"{arrival.source}: changed while being read; try again later")
        known = rows and changing.current.find(batch_digest(*rows.in_order))
        if known and rows:
            return _skip_known(known, rows, arrival, changing)
        outcome, growth = validate_batch(rows, found, spec, changing.current, workspace)
    except DefectError as error:
        outcome = _refusal(error, arrival)
    except (DigitsError, OSError) as error:
        if not isinstance(error, OSError) or error.errno not in FAULTS_OF_NAMES:
            raise
        outcome = _refusal(DefectError("corrupt_file", str(error)), arrival)
    except Exception as error:  # whatever a library makes of hostile files must not stop a run
        logger.debug("%s cannot be read", arrival.source, exc_info=True)
        problem = f"{arrival.source} cannot be read: {type(error).__name__}: {error}"
        outcome = _refusal(DefectError("corrupt_file", problem), arrival)
    if outcome.success and rows:
        return _accept(rows, outcome, growth, arrival, changing)
    return _refuse(outcome, arrival, changing, workspace)


def _files_of(arrival: Arrival) -> list[BatchFile]:
    claimed = arrival.claimed
    if claimed and claimed.num_interruptions >= MAX_INTERRUPTIONS:
        found = f"ended the process that read it {MAX_INTERRUPTIONS} times"
        refuse("unbounded", arrival.source, found, "a batch that fits into memory")
    return list_files(arrival.paths, are_links_followed=claimed is None)


def _refusal(error: DefectError, arrival: Arrival) -> ValidationOutcome:
    return ValidationOutcome(findings=(of_files(error, arrival.paths),))


def _skip_known(known: Change, rows: BatchRows, arrival: Arrival, changing: Changing) -> Addition:
    """Change nothing, unless the stored batch is missing or corrupted: then store it again."""
    if not is_kept(known, changing.versions):
        keep_batch(*rows.in_order, changing.versions)
    if arrival.claimed:
        arrival.claimed.finish()
    return _addition(arrival, changing, status="known", batch=known.batch)


def _accept(
    rows: BatchRows,
    outcome: ValidationOutcome,
    growth: Growth,
    arrival: Arrival,
    changing: Changing,
) -> Addition:
    # Stored before it is recorded: a batch that no line names does not count.
    batch, manifest = keep_batch(*rows.in_order, changing.versions)
    changing.add(
        batch,
        manifest=manifest,
        source=arrival.source,
        files=arrival.digests,
        growth=growth,
    )
    if arrival.claimed:
        arrival.claimed.finish()
    warnings = tuple(str(warning) for warning in outcome.warnings)
    return _addition(
        arrival, changing, status="accepted", batch=batch, growth=growth, warnings=warnings
    )


def _refuse(
    outcome: ValidationOutcome, arrival: Arrival, changing: Changing, workspace: Workspace
) -> Addition:
    page = set_aside(
        outcome,
        arrival.paths,
        arrival.digests,
        dataset=changing.versions.dataset,
        source=arrival.source,
        claimed=arrival.claimed,
        settings=workspace.settings,
    )
    return _addition(
        arrival,
        changing,
        status="quarantined",
        reasons=tuple(str(failure) for failure in outcome.failures),
        warnings=tuple(str(warning) for warning in outcome.warnings),
        page=page,
    )


def _addition(arrival: Arrival, changing: Changing, **facts: Any) -> Addition:
    return Addition(
        dataset=changing.versions.dataset,
        source=arrival.source,
        version=changing.current.number,
        **facts,
    )
