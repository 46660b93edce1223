"""Garbage collection: delete whatever no model version, recent cache record or run needs."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from digits.registry.ledger import ModelVersion, all_ledgers
from digits.storage.files import discard
from digits.storage.lineage import LineageRef
from digits.storage.locks import attempt, hold
from digits.storage.records import KEY, Record
from digits.storage.references import Frozen, Kind, Reference
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)


class Garbage(Frozen):
    """Files and folders that nothing needs, and their total size in bytes."""

    paths: tuple[Path, ...]
    num_bytes: int


def collect(
    workspace: Workspace,
    *,
    keep_records: int,
    is_dry_run: bool,
    announce: Callable[[Garbage], None],
) -> None:
    """Find garbage, pass it to `announce`, and delete it unless `is_dry_run`.

    Keeps every model version in any ledger (so the champion and every rollback target) and the page
    of its promotion; the `keep_records` most recently used cache records of each step and model,
    with their bundles; the latest `keep_records` checkpoints of unfinished trainings; and the
    latest `keep_records` failed validations. Waits for active runs before deleting. Raises
    LedgerError, and deletes nothing, if any ledger is corrupted.
    """
    with _undisturbed(workspace, is_dry_run):
        # Records are deleted before bundles, so an interruption leaves at most unreferenced
        # bundles, which the next collection finds.
        kept, files = _sort_records(workspace, keep_records)
        files += _values(workspace, kept) + _checkpoints(workspace, keep_records)
        files += _locks(workspace)
        bundles = _bundles(workspace, kept, keep_records)
        paths = (*files, *bundles)
        announce(Garbage(paths=paths, num_bytes=sum(map(_size, paths))))
        if not is_dry_run:
            for path in files:
                discard(path)
            for path in bundles:
                workspace.store.discard(path)


def runs_lock(workspace: Workspace) -> Path:
    """Return the path of the lock that runs share and garbage collection takes exclusively."""
    return workspace.settings.artifacts_dir / "locks" / "runs.lock"


@contextlib.contextmanager
def _undisturbed(workspace: Workspace, is_dry_run: bool) -> Iterator[None]:
    lock = runs_lock(workspace)
    if not is_dry_run:
        with hold(lock, "waiting for active runs to finish"):
            yield
        return
    with attempt(lock) as is_alone:
        if not is_alone:
            logger.warning("runs are in progress; their results so far are listed as well")
        yield


def _sort_records(workspace: Workspace, keep: int) -> tuple[list[Record], list[Path]]:
    """Split the records folder into records to keep and files to delete."""
    versions = _versions(workspace)
    makers = {made.made_by for version in versions for made in (version.model, version.evaluation)}
    unshown = {version.model.digest for version in versions}
    counts: Counter[str] = Counter()
    kept = []
    for record in workspace.records.all():
        counts[record.label] += 1
        shown = _shown(record) & unshown
        unshown -= shown
        if counts[record.label] <= keep or record.key.digest in makers or shown:
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


def _bundles(workspace: Workspace, kept: Iterable[Record], keep: int) -> list[Path]:
    store = workspace.store
    needed: set[Reference] = {record.reference for record in kept}
    for version in _versions(workspace):
        needed |= {version.model, version.evaluation, LineageRef(digest=version.lineage)}
    folders = {store.folder(reference) for reference in needed}
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


def _versions(workspace: Workspace) -> list[ModelVersion]:
    ledgers = all_ledgers(workspace.settings)
    return [version for ledger in ledgers for version in ledger.versions().values()]


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    times = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            times[path] = path.lstat().st_mtime_ns
    return sorted(times, key=lambda path: times[path], reverse=True)


def _size(path: Path) -> int:
    files = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total
