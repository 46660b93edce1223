"""What may be deleted: all that no kept version, no recent cache entry and no run needs."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from digits.ledger import versions_of
from digits.lineage import LineageRef
from digits.locks import hold, is_free
from digits.records import Record
from digits.references import Frozen, Kind, Reference
from digits.workspace import Workspace


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

    Kept are every version in any ledger, hence the champion and all that a rollback could choose;
    the newest `keep_records` cache entries of each step and model, with what they refer to; and
    the checkpoints of trainings that have not ended. Waits for the runs that are under way.
    """
    with hold(runs_lock(workspace), "waiting for the runs that are under way to end"):
        paths = tuple(_unneeded(workspace, keep_records))
        announce(Garbage(paths=paths, num_bytes=sum(_size(path) for path in paths)))
        if not is_dry_run:
            # Records go first: a record whose bundle is gone would only make its step run again,
            # but a bundle that no record names is found here next time.
            for path in paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def runs_lock(workspace: Workspace) -> Path:
    """The lock that every run shares and garbage collection takes alone."""
    return workspace.settings.artifacts_dir / "locks" / "runs.lock"


def _unneeded(workspace: Workspace, keep_records: int) -> Iterator[Path]:
    kept, dropped = _sorted_records(workspace, keep_records)
    for record in dropped:
        yield workspace.records.path(record.key.digest)
    needed = {*_of_versions(workspace), *(record.reference for record in kept)}
    folders = {workspace.store.folder(reference) for reference in needed}
    for kind in get_args(Kind):
        root = workspace.store.root(kind)
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if path not in folders and not _is_being_written(path):
                yield path
    keys = {record.key.digest for record in kept}
    yield from (path for path in workspace.records.values.glob("*") if path.name not in keys)
    for path in (workspace.settings.artifacts_dir / "checkpoints").glob("*"):
        if path.name in keys:
            yield path


def _sorted_records(workspace: Workspace, keep: int) -> tuple[list[Record], list[Record]]:
    """The records to keep and those to drop."""
    made_versions = {reference.made_by for reference in _of_versions(workspace)}
    groups: dict[str, list[Record]] = {}
    for record in workspace.records.all():
        groups.setdefault(record.label, []).append(record)
    kept: list[Record] = []
    dropped: list[Record] = []
    for records in groups.values():
        records.sort(key=lambda record: record.created, reverse=True)
        for rank, record in enumerate(records):
            is_kept = rank < keep or record.key.digest in made_versions
            (kept if is_kept else dropped).append(record)
    return kept, dropped


def _of_versions(workspace: Workspace) -> Iterator[Reference]:
    for path in (workspace.settings.artifacts_dir / "ledger").glob("*.jsonl"):
        for version in versions_of(workspace.ledger(path.stem).entries()).values():
            yield version.model
            yield version.evaluation
            yield LineageRef(digest=version.lineage)


def _is_being_written(path: Path) -> bool:
    lock = path if path.suffix == ".lock" else path.with_name(f"{path.name}.lock")
    return lock.exists() and not is_free(lock)


def _size(path: Path) -> int:
    files = (path,) if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)
