"""Refused batches: one folder for each, with its files and a page that says why."""

import contextlib
import errno
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from digits.intake.incoming import quarantine_folder
from digits.settings import Settings
from digits.storage.files import TEMPORARY, discard, flush, make_folder, write_whole
from digits.storage.records import canonical_digest
from digits.validation.dataset_validation import validation_files
from digits.validation.findings import PAGE_FILE, ValidationOutcome

ORIGINALS = "originals"


def set_aside(
    outcome: ValidationOutcome,
    paths: Sequence[Path],
    files: Mapping[str, str],
    *,
    dataset: str,
    source: str,
    moves: bool,
    settings: Settings,
) -> Path:
    """Quarantine the files of a refused batch with its findings; return the page's path.

    The folder is named by a digest of the files, so the same files are kept once, with the latest
    page. The folder is created atomically. Files that move follow afterwards; at any moment each is
    intact in one place or the other. The caller must hold the lock on the dataset's versions.
    """
    root = quarantine_folder(dataset, settings)
    final = root / canonical_digest(files)
    facts = {"dataset": dataset, "source": source, "time": datetime.now(UTC).isoformat()}
    pages = validation_files(outcome, "batch", **facts, files=dict(files))
    if not final.exists():
        make_folder(root)
        draft = root / f"{TEMPORARY}{final.name}"
        discard(draft)
        (draft / ORIGINALS).mkdir(parents=True)
        if not moves:
            for path in paths:
                _copy(path, draft / ORIGINALS / path.name)
        for name, content in pages.items():
            write_whole(draft / name, content)
        draft.rename(final)
        flush(root)
    else:
        for name, content in pages.items():
            write_whole(final / name, content)
    if moves:
        for path in paths:
            _move(path, final / ORIGINALS / path.name)
    return final / PAGE_FILE


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target, symlinks=True, ignore=_special)
    elif path.is_file():
        shutil.copy2(path, target)


def _special(folder: str, names: list[str]) -> list[str]:
    """Pipes and devices, which have no content to copy."""
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if not (p.is_symlink() or p.is_file() or p.is_dir())]


def _move(path: Path, target: Path) -> None:
    """Move a file or folder; at any moment it is intact in one of the two places."""
    if not target.exists():
        try:
            path.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            draft = target.with_name(f"{TEMPORARY}{target.name}")
            discard(draft)
            _copy(path, draft)
            draft.rename(target)
        flush(target.parent)
    with contextlib.suppress(FileNotFoundError):
        discard(path)
