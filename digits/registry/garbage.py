"""What may be deleted: all that no kept version, no recent cache entry and no run needs."""

import contextlib
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from digits.registry.ledger import ModelVersion, all_ledgers
from digits.storage.lineage import LineageRef
from digits.storage.locks import attempt, hold
from digits.storage.records import KEY, Record
from digits.storage.references import Frozen, Kind, Reference
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)


class Garbage(Frozen):
    """Files and folders that nothing needs, and how many bytes they take."""

    paths: tuple[Path, ...]
    num_bytes: int


def collect(
    workspace: Workspace,
    *,
    keep_records: int,
    is_dry_run: bool,
    announce: Callable[[Garbage], None],
) -> None:
    """Find what nothing needs, announce it, and delete it unless `is_dry_run`.

    Kept are every version in any ledger, hence the champion and all that a rollback could choose,
    with the page that shows why it became champion; the `keep_records` last used cache entries of
    each step and model, with what they refer to; the last `keep_records` checkpoints of trainings
    that have not ended, and as many validations that failed. To delete, it waits for the runs that
    are under way. Raises LedgerError, and deletes nothing, when a ledger cannot be believed.
    """
    with _undisturbed(workspace, is_dry_run):
        # Records go first: without its bundle a record only makes its step run again, but a bundle
        # that no record names is found here next time.
        kept, files = _sort_records(workspace, keep_records)
        files += _values(workspace, kept) + _checkpoints(workspace, keep_records)
        files += _locks(workspace)
        bundles = _bundles(workspace, kept, keep_records)
        paths = (*files, *bundles)
        announce(Garbage(paths=paths, num_bytes=sum(map(_size, paths))))
        if not is_dry_run:
            for path in files:
                _delete(path)
            for path in bundles:
                workspace.store.discard(path)


def runs_lock(workspace: Workspace) -> Path:
    """The lock that every run shares and garbage collection takes alone."""
    return workspace.settings.artifacts_dir / "locks" / "runs.lock"


@contextlib.contextmanager
def _undisturbed(workspace: Workspace, is_dry_run: bool) -> Iterator[None]:
    lock = runs_lock(workspace)
    if not is_dry_run:
        with hold(lock, "waiting for the runs that are under way to end"):
            yield
        return
    with attempt(lock) as is_alone:
        if not is_alone:
            logger.warning("runs are under way: what they have made so far is listed as well")
        yield


def _sort_records(workspace: Workspace, keep: int) -> tuple[list[Record], list[Path]]:
    """The records to keep, and the files to delete beside them."""
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
    # Also those that cannot be read: they will never be believed.
    paths = {workspace.records.path(record.key.digest) for record in kept}
    return kept, [path for path in _listed(workspace.records.root) if path not in paths]


def _shown(record: Record) -> set[str]:
    """The model whose promotion a page shows."""
    verdict = record.key.inputs.get("verdict")
    if isinstance(verdict, dict) and verdict.get("outcome") == "promoted":
        return {str(verdict.get("candidate_digest"))}
    return set()


def _values(workspace: Workspace, kept: Iterable[Record]) -> list[Path]:
    keys = {record.key.digest for record in kept}
    return [path for path in _listed(workspace.records.values) if path.name not in keys]


def _checkpoints(workspace: Workspace, keep: int) -> list[Path]:
    """Those of trainings that have ended, and of all but the last that were interrupted."""
    folders = _newest_first(_listed(workspace.settings.artifacts_dir / "checkpoints"))
    ended = {record.key.digest for record in workspace.records.of_step("train")}
    interrupted = [folder for folder in folders if folder.name not in ended]
    return [folder for folder in folders if folder.name in ended] + interrupted[keep:]


def _locks(workspace: Workspace) -> list[Path]:
    """Locks of steps whose holder was killed; nobody can hold one now."""
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
            # One that failed has no record, but somebody may be about to read its page.
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


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _size(path: Path) -> int:
    files = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total
