"""Refused batches: one folder for each, with its files and a page that says why."""

import errno
import logging
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from digits.errors import StoreError
from digits.intake.claims import Claim
from digits.intake.contents import others_of
from digits.intake.incoming import quarantine_folder
from digits.settings import Settings
from digits.storage.files import TEMPORARY, discard, flush, make_folder, write_whole
from digits.storage.records import KEY, canonical_digest
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.objects import Objects
from digits.validation.dataset_validation import RESULT_FILE, validation_files
from digits.validation.findings import PAGE_FILE, ValidationOutcome

logger = logging.getLogger(__name__)

ORIGINALS = "originals"


def set_aside(
    outcome: ValidationOutcome,
    paths: Sequence[Path],
    files: Mapping[str, str],
    *,
    dataset: str,
    source: str,
    claimed: Claim | None,
    settings: Settings,
) -> Path:
    """Quarantine the files of a refused batch with its findings; return the page's path.

    The folder is named by a digest of the files, so the same files are kept once, with the latest
    page. It is created atomically. A claimed batch follows as a whole; at any moment it is in one
    place or the other. Other files are copied if they have digests: those that exceed a bound do
    not, and would fill the disk. The caller must hold the lock on the dataset's versions.
    """
    root = quarantine_folder(dataset, settings)
    final = root / canonical_digest(files or others_of(paths))
    facts = {"dataset": dataset, "source": source, "time": datetime.now(UTC).isoformat()}
    pages = validation_files(outcome, "batch", **facts, files=dict(files))
    if not final.exists():
        make_folder(root)
        draft = root / f"{TEMPORARY}{final.name}"
        discard(draft)
        draft.mkdir()
        if claimed is None:
            (draft / ORIGINALS).mkdir()
            for path in paths if files else ():
                _copy(path, draft / ORIGINALS / path.name)
        for name, content in pages.items():
            write_whole(draft / name, content)
        draft.rename(final)
        flush(root)
    else:
        for name, content in pages.items():
            write_whole(final / name, content)
    if claimed is not None:
        _move(claimed, final / ORIGINALS)
    objects = objects_of(settings)
    if objects is not None:
        upload_refused(final, objects, dataset)
    return final / PAGE_FILE


def upload_refused(folder: Path, objects: Objects, dataset: str) -> bool:
    """Upload a refused batch, so that other machines can show it; return whether that succeeded.

    The page comes last. The files are one archive, because their names can be any that a file
    system allows.
    """
    name = f"quarantine/{dataset}/{folder.name}"
    try:
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(folder / ORIGINALS, ORIGINALS)
            file.seek(0)
            objects.upload(f"{name}/{ORIGINALS}.tar", file, lambda _: None)
        for page in (RESULT_FILE, PAGE_FILE):
            objects.write(f"{name}/{page}", (folder / page).read_bytes())
    except (StoreError, OSError) as error:
        logger.warning("the refused batch is only on this machine: %s", error)
        return False
    return True


def fetch_pages(dataset: str, settings: Settings) -> None:
    """Download the pages of the batches that other machines have refused."""
    objects = objects_of(settings)
    if objects is None:
        return
    for one in objects.listed(f"quarantine/{dataset}/"):
        _, _, folder, page = one.name.split("/", 3)
        path = quarantine_folder(dataset, settings) / folder / page
        if page in {RESULT_FILE, PAGE_FILE} and KEY.fullmatch(folder) and not path.exists():
            found = objects.read(one.name)
            if found is not None:
                write_whole(path, found.content)


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target, symlinks=True, ignore=_special)
    elif path.is_file():
        shutil.copy2(path, target)


def _special(folder: str, names: list[str]) -> list[str]:
    """Pipes and devices, which have no content to copy."""
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if not (p.is_symlink() or p.is_file() or p.is_dir())]


def _move(claimed: Claim, target: Path) -> None:
    """Move a claimed batch, or delete it if the same files are in quarantine already."""
    if target.exists() and any(target.iterdir()):
        claimed.finish()
        return
    claimed.forget_interruptions()
    try:
        claimed.folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = target.with_name(f"{TEMPORARY}{target.name}")
        discard(draft)
        _copy(claimed.folder, draft)
        draft.rename(target)
        claimed.finish()
    flush(target.parent)
