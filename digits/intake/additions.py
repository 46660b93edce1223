"""Takes new data in: a batch is read, judged against its dataset, and added or set aside, whole."""

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
from digits.storage.files import TEMPORARY, discard, file_digest
from digits.storage.workspace import Workspace
from digits.validation.findings import ValidationOutcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrival:
    """The files of a batch; if it `moves`, it is gone from where it was once this has ended."""

    paths: tuple[Path, ...]
    moves: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the batch is from, for messages and records."""
        return " and ".join(map(str, self.paths))

    def state(self) -> list[tuple[str, int, int]]:
        """Sizes and times of the files: whether somebody is still writing them."""
        return [
            (name, status.st_size, status.st_mtime_ns)
            for name, path in _files(self.paths)
            for status in [path.lstat()]
        ]


def add_batch(paths: Sequence[Path], spec: DatasetSpec, workspace: Workspace) -> Addition:
    """Add the batch in these files, which stay where they are, or quarantine a copy of them.

    Raises DataError where the dataset's own files, or these, cannot be read at all.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is not there; name the files or the folder of one batch")
        if workspace.settings.data_dir.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{path} holds all that there is; name the folder of one batch")
    return _take(Arrival(tuple(path.absolute() for path in paths)), spec, workspace)


def add_all_incoming(spec: DatasetSpec, workspace: Workspace) -> Iterator[Addition]:
    """Add or quarantine what lies in the incoming folder, one batch after the other.

    What cannot be read at all is left where it is, and said.
    """
    for entry in waiting(spec.name, workspace.settings):
        try:
            yield _take(Arrival(entry.paths, moves=True), spec, workspace)
        except (DataError, OSError) as error:
            logger.warning("%s is left where it is: %s", entry.name, error)


def _take(arrival: Arrival, spec: DatasetSpec, workspace: Workspace) -> Addition:
    with DatasetVersions(spec.name, workspace.settings).changing() as changing:
        sweep(changing.versions)
        before = arrival.state()
        arrival = replace(arrival, digests=_digests(arrival.paths))
        rows, found = read_rows(arrival.paths, spec)
        if arrival.state() != before:
            raise DataError(f"{arrival.source} was changed while it was read; try again later")
        known = rows and changing.current.find(batch_digest(*rows.in_order))
        if known and rows:
            return _know(known, rows, arrival, changing)
        outcome, growth = validate_batch(rows, found, spec, changing.current, workspace)
        if outcome.success and rows:
            return _accept(rows, outcome, growth, arrival, changing)
        return _refuse(outcome, arrival, changing, workspace)


def _know(known: Change, rows: BatchRows, arrival: Arrival, changing: Changing) -> Addition:
    """Nothing is to be done, unless what was kept is damaged: then this puts it right."""
    if not is_kept(known, changing.versions):
        keep_batch(*rows.in_order, changing.versions)
    _take_away(arrival, changing.versions)
    return _intake(arrival, changing, status="known", batch=known.batch)


def _accept(
    rows: BatchRows,
    outcome: ValidationOutcome,
    growth: Growth,
    arrival: Arrival,
    changing: Changing,
) -> Addition:
    # Kept before it is spoken of: a batch that no line names is not there.
    batch, manifest = keep_batch(*rows.in_order, changing.versions)
    changing.add(
        batch,
        manifest=manifest,
        source=arrival.source,
        files=arrival.digests,
        growth=growth,
    )
    _take_away(arrival, changing.versions)
    warnings = tuple(str(warning) for warning in outcome.warnings)
    return _intake(
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
    return _intake(
        arrival,
        changing,
        status="quarantined",
        reasons=tuple(str(failure) for failure in outcome.failures),
        warnings=tuple(str(warning) for warning in outcome.warnings),
        page=page,
    )


def _intake(arrival: Arrival, changing: Changing, **facts: Any) -> Addition:
    return Addition(
        dataset=changing.versions.dataset,
        source=arrival.source,
        version=changing.current.number,
        **facts,
    )


def _take_away(arrival: Arrival, versions: DatasetVersions) -> None:
    """Remove a batch that is kept now from where it came in; at once, as far as anybody sees."""
    if not arrival.moves:
        return
    for path in arrival.paths:
        hidden = versions.folder / f"{TEMPORARY}{path.name}"
        try:
            path.rename(hidden)
        except OSError:  # it is on another disk
            hidden = path
        discard(hidden)


def _digests(paths: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of each plain file, by its name."""
    files = _files(paths)
    return {name: file_digest(file) for name, file in files if stat.S_ISREG(file.lstat().st_mode)}


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """All files, those in folders included, with their names as they are told apart."""
    for path in paths:
        if not path.is_dir():
            yield path.name, path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                yield str(path.name / file.relative_to(path)), file
