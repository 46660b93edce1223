"""Garbage collection: delete whatever no model version, recent cache record or run needs."""

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from digits.errors import DamagedError, DigitsError
from digits.registry.ledger import ModelVersion, all_ledgers
from digits.storage.files import discard
from digits.storage.lineage import LineageRef, read_lineage
from digits.storage.locks import hold, is_free
from digits.storage.records import KEY, Record
from digits.storage.references import Frozen, Kind, OnnxRef, Reference
from digits.storage.sharing import data_lock, other_users, using_data
from digits.storage.store import PREPARED_KINDS
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)

SECONDS_OF_A_DAY = 24 * 60 * 60
DATA_STEPS: Mapping[str, Kind] = {"ingest": "datasets", "normalize": "arrays"}
"""The steps of a lineage that made a model version's data, and their bundles."""


class Garbage(Frozen):
    """Files and folders that nothing needs, and their total size in bytes."""

    paths: tuple[Path, ...]
    num_bytes: int


def collect(
    workspace: Workspace,
    *,
    keep_records: int,
    refused_days: int | None = None,
    is_dry_run: bool,
    announce: Callable[[Garbage], None],
) -> None:
    """Find garbage, pass it to `announce`, and delete it unless `is_dry_run`.

    Keeps every model version in any ledger (so the champion and every rollback target), its ONNX
    forms and the page of its promotion; the data that a champion was trained and scored on; the
    `keep_records` most recently used cache records of each step and model, with their bundles; the
    trainings of the latest `keep_records` sweeps; the latest `keep_records` checkpoints of
    unfinished trainings; the latest `keep_records` failed validations; and prepared data that
    another workspace uses. Refused batches may be the only copy of a user's data, so they are
    deleted only if they are older than `refused_days`.

    Waits for active runs, also those of other workspaces on the same data, before deleting. What
    cannot be deleted is left, with a warning. Raises LedgerError, and deletes nothing, if any
    ledger is corrupted.
    """
    with _undisturbed(workspace, is_dry_run):
        # Records are deleted before bundles, so an interruption leaves at most unreferenced
        # bundles, which the next collection finds.
        kept, files = _sort_records(workspace, keep_records)
        files += _values(workspace, kept) + _checkpoints(workspace, keep_records)
        files += _locks(workspace) + _refused(workspace, refused_days)
        bundles = _bundles(workspace, kept, keep_records)
        paths = (*files, *bundles)
        announce(Garbage(paths=paths, num_bytes=sum(map(_size, paths))))
        if not is_dry_run:
            for path in files:
                _delete(path, discard)
            for path in bundles:
                _delete(path, workspace.store.discard)


@contextlib.contextmanager
def running(workspace: Workspace) -> Iterator[None]:
    """Keep garbage collection, here and in workspaces that share the data, waiting for a block."""
    waiting = "waiting for garbage collection to end"
    with (
        hold(runs_lock(workspace), waiting, shared=True),
        using_data(workspace.settings, waiting),
    ):
        yield


def runs_lock(workspace: Workspace) -> Path:
    """Return the path of the lock that runs share and garbage collection takes exclusively."""
    return workspace.settings.artifacts_dir / "locks" / "runs.lock"


@contextlib.contextmanager
def _undisturbed(workspace: Workspace, is_dry_run: bool) -> Iterator[None]:
    locks = (runs_lock(workspace), data_lock(workspace.settings))
    if is_dry_run:
        # Nothing is written, so that it works where only reading is permitted.
        if not all(map(is_free, locks)):
            logger.warning("runs are in progress; their results so far are listed as well")
        yield
        return
    with contextlib.ExitStack() as held:
        for lock in locks:
            held.enter_context(hold(lock, "waiting for active runs to finish"))
        yield


def _delete(path: Path, delete: Callable[[Path], None]) -> None:
    try:
        delete(path)
    except OSError as error:
        logger.warning("%s cannot be deleted: %s", error.filename or path, error.strerror)


def _sort_records(workspace: Workspace, keep: int) -> tuple[list[Record], list[Path]]:
    """Split the records folder into records to keep and files to delete."""
    versions = _versions(workspace)
    makers = {made.made_by for version in versions for made in (version.model, version.evaluation)}
    makers |= {form.made_by for form in _forms(workspace)}
    unshown = {version.model.digest for version in versions}
    records = list(workspace.records.all())
    compared = _compared(records, keep)
    counts: Counter[str] = Counter()
    kept = []
    for record in records:
        counts[record.label] += 1
        shown = _shown(record) & unshown
        unshown -= shown
        is_needed = record.key.digest in makers or record.reference.digest in compared
        if counts[record.label] <= keep or is_needed or shown:
            kept.append(record)
    # Unreadable records are deleted too: they will never be trusted.
    paths = {workspace.records.path(record.key.digest) for record in kept}
    return kept, [path for path in _listed(workspace.records.root) if path not in paths]


def _shown(record: Record) -> set[str]:
    """The digest of the model whose promotion a report page shows, if any."""
    verdict = record.key.inputs.get("verdict")
    if isinstance(verdict, dict) and verdict.get("outcome") == "promoted":
        return {str(verdict.get("candidate_digest"))}
    return set()


def _compared(records: Iterable[Record], keep: int) -> set[str]:
    """The digests of the models and scores that the pages of the latest sweeps compare."""
    pages = [record for record in records if record.key.step == "compare"]
    return {
        digest
        for page in pages[:keep]
        for pair in page.key.inputs.get("scored", ())
        for digest in pair
    }


def _values(workspace: Workspace, kept: Iterable[Record]) -> list[Path]:
    keys = {record.key.digest for record in kept}
    return [path for path in _listed(workspace.records.values) if path.name not in keys]


def _checkpoints(workspace: Workspace, keep: int) -> list[Path]:
    """Checkpoints of finished trainings, and all but the latest of interrupted ones."""
    folders = _newest_first(_listed(workspace.settings.artifacts_dir / "checkpoints"))
    ended = {record.key.digest for record in workspace.records.of_step("train")}
    interrupted = [folder for folder in folders if folder.name not in ended]
    return [folder for folder in folders if folder.name in ended] + interrupted[keep:]


def _locks(workspace: Workspace) -> list[Path]:
    """Step locks left by killed runs; none can be in use while the runs lock is held."""
    paths = _listed(workspace.settings.artifacts_dir / "locks")
    return [path for path in paths if KEY.fullmatch(path.stem)]


def _refused(workspace: Workspace, days: int | None) -> list[Path]:
    """Refused batches in quarantine that are older than this."""
    datasets = _listed(workspace.settings.data_dir / "quarantine")
    batches = [path for dataset in datasets if dataset.is_dir() for path in _listed(dataset)]
    if days is None:
        if batches:
            logger.info(
                "%d refused batches are kept in quarantine; --refused-days 90 deletes older ones",
                len(batches),
            )
        return []
    latest = time.time() - days * SECONDS_OF_A_DAY
    return [path for path in batches if path.lstat().st_mtime < latest]


def _bundles(workspace: Workspace, kept: Iterable[Record], keep: int) -> list[Path]:
    store = workspace.store
    needed: set[Reference] = {record.reference for record in kept}
    for version in _versions(workspace):
        needed |= {version.model, version.evaluation, LineageRef(digest=version.lineage)}
    needed |= _forms(workspace)
    folders = {store.place(reference) for reference in needed}
    folders |= _data_of_champions(workspace) | _needed_elsewhere(workspace)
    unneeded = []
    for kind in get_args(Kind):
        paths = [path for path in store.contents(kind) if path not in folders]
        if kind == "validations":
            # A failed validation has no record, but someone may still want to read its page.
            whole = [path for path in paths if KEY.fullmatch(path.name)]
            recent = _newest_first(whole)[:keep]
            paths = [path for path in paths if path not in recent]
        unneeded += paths
    return unneeded


def _data_of_champions(workspace: Workspace) -> set[Path]:
    """The bundles of the data behind each champion, which exports and reproductions need."""
    folders = set()
    for ledger in all_ledgers(workspace.settings):
        champion = ledger.champion()
        with contextlib.suppress(DamagedError):
            lineage = read_lineage(champion.lineage, workspace.store) if champion else {}
            folders |= {
                workspace.store.root(kind) / lineage[step].output
                for step, kind in DATA_STEPS.items()
                if step in lineage
            }
    return folders


def _needed_elsewhere(workspace: Workspace) -> set[Path]:
    """The prepared data that other workspaces use; all of it if that cannot be read."""
    prepared = {path for kind in PREPARED_KINDS for path in workspace.store.contents(kind)}
    needed: set[Path] = set()
    for entry, artifacts in other_users(workspace.settings).items():
        try:
            needed |= _needed_by(workspace, artifacts)
        except (OSError, DigitsError) as error:
            logger.warning(
                "%s uses the same prepared data and cannot be read (%s), so all of it is kept; "
                "if that workspace is gone for good, delete %s",
                *(artifacts, error, entry),
            )
            return prepared
    return needed & prepared


def _needed_by(workspace: Workspace, artifacts: Path) -> set[Path]:
    """The bundles of another workspace. Raises OSError for anything that cannot be read."""
    other = Workspace(workspace.settings.model_copy(update={"artifacts_dir": artifacts}))
    artifacts.stat()
    for path in (*_listed(other.records.root), *_listed(artifacts / "ledger")):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    references = (record.reference for record in other.records.all())
    folders = {other.store.place(reference) for reference in references}
    return folders | _data_of_champions(other)


def _versions(workspace: Workspace) -> list[ModelVersion]:
    ledgers = all_ledgers(workspace.settings)
    return [version for ledger in ledgers for version in ledger.versions().values()]


def _forms(workspace: Workspace) -> set[OnnxRef]:
    ledgers = all_ledgers(workspace.settings)
    return {form for ledger in ledgers for entry in ledger.entries() for form in entry.forms}


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    times = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            times[path] = path.lstat().st_mtime_ns
    return sorted(times, key=lambda path: times[path], reverse=True)


def _size(path: Path) -> int:
    is_folder = path.is_dir() and not path.is_symlink()
    total = 0
    with contextlib.suppress(RecursionError):  # nested too deeply for Python
        for file in (path, *path.rglob("*")) if is_folder else (path,):
            with contextlib.suppress(OSError):
                total += file.lstat().st_size
    return total
