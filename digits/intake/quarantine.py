"""Where refused batches lie: their files, and the page that says why, in a folder for each."""

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
    """Keep the files of a refused batch, and what was found in them; the page.

    The folder is named by the files' digests, so that the same files are kept once, with the last
    page. It is whole or not there, but for files that move: they come in afterwards, and are in one
    place or the other at any moment. Only for whoever holds the versions of the dataset.
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
    """Pipes and devices, of which there is nothing to copy."""
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if not (p.is_symlink() or p.is_file() or p.is_dir())]


def _move(path: Path, target: Path) -> None:
    """Move a file or a folder so that it is whole at one of the places at any moment."""
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
