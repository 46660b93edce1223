"""Copy refused batches between this machine and a store; what is there already stays as it is."""

import logging
import tarfile
import tempfile
from pathlib import Path

from digits.intake.incoming import quarantine_folder
from digits.intake.quarantine import ORIGINALS, upload_refused
from digits.settings import Settings
from digits.storage.files import TEMPORARY, discard, flush, make_folder
from digits.storage.records import KEY
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.objects import Objects
from digits.validation.dataset_validation import RESULT_FILE
from digits.validation.findings import PAGE_FILE

logger = logging.getLogger(__name__)


def copy_refused(source: Settings, target: Settings) -> int:
    """Copy refused batches into a store or out of one; return how many.

    Raises StoreError. Between two stores nothing is copied.
    """
    here, there = objects_of(source), objects_of(target)
    if here is None and there is not None:
        return _send(source, there)
    if here is not None and there is None:
        return _receive(here, target)
    return 0


def _send(source: Settings, objects: Objects) -> int:
    there = _in_store(objects)
    num = 0
    for page in sorted((source.data_dir / "quarantine").glob(f"*/*/{PAGE_FILE}")):
        dataset, name = page.parts[-3:-1]
        if KEY.fullmatch(name) and (dataset, name) not in there:
            num += upload_refused(page.parent, objects, dataset)
    return num


def _receive(objects: Objects, target: Settings) -> int:
    num = 0
    for dataset, name in sorted(_in_store(objects)):
        final = quarantine_folder(dataset, target) / name
        if (final / ORIGINALS).exists():
            continue
        try:
            _download(f"quarantine/{dataset}/{name}", objects, final)
            num += 1
        except (tarfile.TarError, FileNotFoundError) as error:
            logger.warning("refused batch %s of %s is not copied: %s", name[:12], dataset, error)
    return num


def _in_store(objects: Objects) -> set[tuple[str, str]]:
    """The datasets and names of the refused batches in a store: their pages are written last."""
    names = [one.name.split("/") for one in objects.listed("quarantine/")]
    return {
        (name[1], name[2])
        for name in names
        if len(name) == 4 and name[3] == PAGE_FILE and KEY.fullmatch(name[2])
    }


def _download(name: str, objects: Objects, final: Path) -> None:
    make_folder(final.parent)
    draft = final.with_name(f"{TEMPORARY}{final.name}")
    discard(draft)
    draft.mkdir()
    with tempfile.TemporaryFile() as file:
        for chunk in objects.download(f"{name}/{ORIGINALS}.tar"):
            file.write(chunk)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.extractall(draft, filter="data")  # nothing outside the folder
    for page in (RESULT_FILE, PAGE_FILE):
        found = objects.read(f"{name}/{page}")
        if found is not None:
            (draft / page).write_bytes(found.content)
    discard(final)  # pages alone, for `digits dataset show`
    draft.rename(final)
    flush(final.parent)
