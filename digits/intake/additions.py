"""Adds new data: reads a batch, validates it against its dataset, and adds or quarantines it."""

import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from digits.datasets.growth import Growth
from digits.datasets.kept_batches import batch_digest, is_kept, keep_batch, sweep
from digits.datasets.versions import Change, Changing, DatasetVersions
from digits.errors import DataError, UsageError
from digits.intake.batch_files import BatchRows, read_rows
from digits.intake.batch_validation import validate_batch
from digits.intake.incoming import Addition, waiting
from digits.intake.quarantine import set_aside
from digits.spec import DatasetSpec
from digits.storage.files import TEMPORARY, discard, file_digest, printable
from digits.storage.workspace import Workspace
from digits.validation.findings import ValidationOutcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrival:
    """The files of a batch; if `moves`, they leave their folder once it is added or refused."""

    paths: tuple[Path, ...]
    moves: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the batch came from, for messages and records."""
        return printable(" and ".join(map(str, self.paths)))

    def state(self) -> list[tuple[str, int, int]]:
        """Sizes and modification times of the files, to notice that one is still being written."""
        return [
            (name, status.st_size, status.st_mtime_ns)
            for name, path in _files(self.paths)
            for status in [path.lstat()]
        ]


def add_batch(paths: Sequence[Path], spec: DatasetSpec, workspace: Workspace) -> Addition:
    """Add the batch in these files, or quarantine a copy of them; the files stay where they are.

    Raises DataError if these files, or the dataset's own files, cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: not found; name the files or the folder of one batch")
        if workspace.settings.data_dir.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{path}: contains the data folder; name the folder of one batch")
    return _add(Arrival(tuple(path.absolute() for path in paths)), spec, workspace)


def add_all_incoming(spec: DatasetSpec, workspace: Workspace) -> Iterator[Addition]:
    """Add or quarantine the batches in the incoming folder, one after the other.

    A batch that cannot be read stays there, with a warning in the log.
    """
    for entry in waiting(spec.name, workspace.settings):
        try:
            yield _add(Arrival(entry.paths, moves=True), spec, workspace)
        except (DataError, OSError) as error:
            logger.warning("%s: left in the incoming folder: %s", entry.name, error)


def _add(arrival: Arrival, spec: DatasetSpec, workspace: Workspace) -> Addition:
    with DatasetVersions(spec.name, workspace.settings).changing() as changing:
        sweep(changing.versions)
        before = arrival.state()
        arrival = replace(arrival, digests=_digests(arrival.paths))
        rows, found = read_rows(arrival.paths, spec)
        if arrival.state() != before:
            raise DataError(f"{arrival.source}: changed while being read; try again later")
        known = rows and changing.current.find(batch_digest(*rows.in_order))
        if known and rows:
            return _skip_known(known, rows, arrival, changing)
        outcome, growth = validate_batch(rows, found, spec, changing.current, workspace)
        if outcome.success and rows:
            return _accept(rows, outcome, growth, arrival, changing)
        return _refuse(outcome, arrival, changing, workspace)


def _skip_known(known: Change, rows: BatchRows, arrival: Arrival, changing: Changing) -> Addition:
    """Change nothing, unless the stored batch is missing or corrupted: then store it again."""
    if not is_kept(known, changing.versions):
        keep_batch(*rows.in_order, changing.versions)
    _remove_originals(arrival, changing.versions)
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
    _remove_originals(arrival, changing.versions)
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
        moves=arrival.moves,
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


def _remove_originals(arrival: Arrival, versions: DatasetVersions) -> None:
    """Remove the original of a stored batch; a rename makes each path disappear at once."""
    if not arrival.moves:
        return
    for path in arrival.paths:
        hidden = versions.folder / f"{TEMPORARY}{path.name}"
        try:
            path.rename(hidden)
        except OSError:  # on another disk
            hidden = path
        discard(hidden)


def _digests(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each regular file, by name."""
    files = _files(paths)
    return {name: file_digest(file) for name, file in files if stat.S_ISREG(file.lstat().st_mode)}


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """All files, including those in folders, with their names within the batch."""
    for path in paths:
        if not path.is_dir():
            yield printable(path.name), path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                yield printable(str(path.name / file.relative_to(path))), file
