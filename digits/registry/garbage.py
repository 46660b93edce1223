"""Garbage collection: delete whatever no model version, recent cache record or run needs."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import get_args

from digits.errors import DamagedError, DigitsError
from digits.registry.needed import (
    GRACE,
    Policy,
    data_of_champions,
    histories,
    kept_records,
    named_bundles,
)
from digits.storage.files import discard
from digits.storage.locks import hold, is_free
from digits.storage.records import KEY
from digits.storage.references import Frozen, Kind
from digits.storage.sharing import data_lock, hidden_users, listed_since, other_users, using_data
from digits.storage.store import PREPARED_KINDS
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)

SECONDS_OF_A_DAY = 24 * 60 * 60


class Garbage(Frozen):
    """Files and folders that nothing needs, objects in DIGITS_STORE, and their size in bytes."""

    paths: tuple[Path, ...]
    num_bytes: int
    objects: tuple[str, ...] = ()


def collect(
    workspace: Workspace,
    *,
    keep_records: int,
    refused_days: int | None = None,
    grace: timedelta = GRACE,
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

    Waits for active runs of this machine, also those of other workspaces on the same data, before
    deleting. In DIGITS_STORE, other machines may go on: what was written or used in the time of
    `grace` is kept (see digits.registry.shared_garbage). What cannot be deleted is left, with a
    warning. Raises LedgerError, and deletes nothing, if any ledger is corrupted.
    """
    policy = Policy(keep_records, refused_days, grace)
    with _undisturbed(workspace, is_dry_run):
        if workspace.objects:
            _collect_shared(workspace, policy, is_dry_run, announce)
        else:
            _collect_local(workspace, policy, is_dry_run, announce)


def _collect_local(
    workspace: Workspace, policy: Policy, is_dry_run: bool, announce: Callable[[Garbage], None]
) -> None:
    # Records are deleted before bundles, so an interruption leaves at most unreferenced
    # bundles, which the next collection finds.
    ledgers = histories(workspace.settings)
    kept = list(kept_records(workspace.records.all(), ledgers, policy.keep_records))
    keys = {record.key.digest for record in kept}
    paths = {workspace.records.path(key) for key in keys}
    # Unreadable records are deleted too: they will never be trusted.
    files = [path for path in _listed(workspace.records.root) if path not in paths]
    files += _of_this_machine(workspace, policy, keys)
    needed = {record.reference.name for record in kept} | named_bundles(ledgers)
    bundles = _bundles(workspace, needed, policy.keep_records)
    announce(Garbage(paths=(*files, *bundles), num_bytes=sum(map(_size, (*files, *bundles)))))
    if not is_dry_run:
        for path in files:
            _delete(path, discard)
        for path in bundles:
            _delete(path, workspace.store.discard)


def _collect_shared(
    workspace: Workspace, policy: Policy, is_dry_run: bool, announce: Callable[[Garbage], None]
) -> None:
    from digits.registry.shared_garbage import delete_units, look, look_around

    found = look_around(workspace, policy) if is_dry_run else look(workspace, policy)
    files = _of_this_machine(workspace, policy, found.kept_keys)
    mirrored = _listed(workspace.settings.results_dir / "mirror" / "records")
    files += [path for path in mirrored if path.stem not in found.kept_keys]
    size = sum(unit.size for unit in found.units) + sum(map(_size, files))
    names = tuple(unit.address for unit in found.units)
    announce(Garbage(paths=tuple(files), num_bytes=size, objects=names))
    if not is_dry_run:
        delete_units(workspace, policy, found.units)
        for path in files:
            _delete(path, discard)
        workspace.store.trim()


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


def _of_this_machine(
    workspace: Workspace, policy: Policy, kept_keys: Collection[str]
) -> list[Path]:
    """Files that lie on this machine even if the results lie in a store."""
    values = [path for path in _listed(workspace.records.values) if path.name not in kept_keys]
    return [
        *values,
        *_checkpoints(workspace, policy.keep_records),
        *_locks(workspace),
        *_refused(workspace, policy.refused_days),
    ]


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


def _bundles(workspace: Workspace, needed: set[str], keep: int) -> list[Path]:
    """The bundles whose names are not `needed`, here or in another workspace."""
    folders = {_place(workspace, name) for name in needed} | _needed_data(workspace)
    unneeded = []
    for kind in get_args(Kind):
        paths = [path for path in workspace.store.contents(kind) if path not in folders]
        if kind == "validations":
            # A failed validation has no record, but someone may still want to read its page.
            whole = [path for path in paths if KEY.fullmatch(path.name)]
            recent = _newest_first(whole)[:keep]
            paths = [path for path in paths if path not in recent]
        unneeded += paths
    return unneeded


def _needed_data(workspace: Workspace) -> set[Path]:
    """The prepared data of champions and of other workspaces; all of it if in doubt."""
    prepared = {path for kind in PREPARED_KINDS for path in workspace.store.contents(kind)}
    try:
        needed = _data_of_champions(workspace)
    except DamagedError as error:
        logger.warning("all prepared data is kept, because a champion's is unknown: %s", error)
        return prepared
    return needed | (_needed_elsewhere(workspace, prepared) & prepared)


def _needed_elsewhere(workspace: Workspace, prepared: set[Path]) -> set[Path]:
    """The prepared data that other workspaces use or may use; all of it if that is unknown."""
    settings = workspace.settings
    needed = _older_than_the_list(workspace, prepared)
    for entry, artifacts in hidden_users(settings).items():
        logger.warning(
            "another workspace that was at %s, or is there on another machine, uses the same "
            "prepared data, so all of it is kept; if that workspace is gone for good, delete %s",
            *(artifacts, entry),
        )
        return prepared
    for entry, artifacts in other_users(settings).items():
        try:
            needed |= _needed_by(workspace, artifacts)
        except (OSError, DigitsError) as error:
            logger.warning(
                "%s uses the same prepared data and cannot be read (%s), so all of it is kept; "
                "if that workspace is gone for good, delete %s",
                *(artifacts, error, entry),
            )
            return prepared
    return needed


def _older_than_the_list(workspace: Workspace, prepared: set[Path]) -> set[Path]:
    """Prepared data from before its users were listed: any workspace may use it."""
    since = listed_since(workspace.settings)
    older = {path for path in prepared if KEY.fullmatch(path.name) and _written(path) < since}
    if older:
        logger.info(
            "%d folders of prepared data are older than the list of their users, and kept; if no "
            "other workspace uses %s, old ones can be deleted by hand",
            *(len(older), workspace.settings.prepared_dir),
        )
    return older


def _needed_by(workspace: Workspace, artifacts: Path) -> set[Path]:
    """The bundles of another workspace. Raises OSError for anything that cannot be read."""
    other = Workspace(workspace.settings.model_copy(update={"artifacts_dir": artifacts}))
    artifacts.stat()
    for path in (*_listed(other.records.root), *_listed(artifacts / "ledger")):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    references = (record.reference for record in other.records.all())
    folders = {other.store.place(reference) for reference in references}
    return folders | _data_of_champions(other)


def _data_of_champions(workspace: Workspace) -> set[Path]:
    names = data_of_champions(histories(workspace.settings), workspace.store)
    return {_place(workspace, name) for name in names}


def _place(workspace: Workspace, name: str) -> Path:
    """The path of the bundle with a name: see Reference.name."""
    for kind in get_args(Kind):
        if name.startswith(f"{kind}/"):
            return workspace.store.root(kind) / name.rpartition("/")[2]
    raise ValueError(name)


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    times = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            times[path] = path.lstat().st_mtime_ns
    return sorted(times, key=lambda path: times[path], reverse=True)


def _written(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_mtime
    return time.time()


def _size(path: Path) -> int:
    is_folder = path.is_dir() and not path.is_symlink()
    total = 0
    with contextlib.suppress(RecursionError):  # nested too deeply for Python
        for file in (path, *path.rglob("*")) if is_folder else (path,):
            with contextlib.suppress(OSError):
                total += file.lstat().st_size
    return total
