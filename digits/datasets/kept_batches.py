"""Accepted batches on disk: a folder named by content, with images.parquet and a manifest."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digits.datasets.images import Images, Labels, iter_split, write_split
from digits.datasets.versions import Change, DatasetVersions
from digits.errors import DamagedError, DataError
from digits.spec import Layout
from digits.storage.bundles import Inspector, seal_folder
from digits.storage.files import TEMPORARY, discard, flush, make_folder

logger = logging.getLogger(__name__)

FILE = "images.parquet"


def canonical_order(images: Images, labels: Labels) -> npt.NDArray[np.intp]:
    """Indices that sort rows by a digest of their pixels, then by label.

    Equal batches become identical, whatever the order of their rows. Sorting by the pixels
    themselves would group similar images, and thus equal labels.
    """
    pixels = np.ascontiguousarray(images).reshape(len(images), -1)
    digests = b"".join(hashlib.sha256(row.data).digest()[:16] for row in pixels)
    first, second = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    return np.lexsort((labels, second, first))


def batch_digest(images: Images, labels: Labels) -> str:
    """SHA-256 over shape, pixels and labels of rows in canonical order: a batch's name."""
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<u2").data)
    return digest.hexdigest()


def keep_batch(images: Images, labels: Labels, versions: DatasetVersions) -> tuple[str, str]:
    """Store rows in canonical order, atomically; return the digests of batch and manifest.

    The caller must hold the lock on the versions. Raises OSError.
    """
    batch = batch_digest(images, labels)
    draft = versions.folder / f"{TEMPORARY}{batch}"
    make_folder(versions.folder)
    discard(draft)
    draft.mkdir()
    write_split(draft / FILE, images, labels)
    manifest = seal_folder(draft)
    final = versions.folder_of(batch)
    if not _is_whole(final, manifest):
        if final.exists():
            logger.warning("%s was corrupted; writing it again", final)
            final.rename(draft.with_suffix(".old"))
        draft.rename(final)
        flush(versions.folder)
    sweep(versions)
    if versions.shared:
        versions.shared.upload(_name(batch, versions), final)
    return batch, manifest


def verify_batch(batch: Change, versions: DatasetVersions) -> None:
    """Check every byte of a batch. Raises DataError with advice on how to repair it."""
    folder = versions.folder_of(batch.batch)
    try:
        _inspect(folder, batch, versions)
    except DamagedError as error:
        name = versions.dataset
        raise DataError(
            f"batch {batch.batch[:12]} of {name}, added from {batch.source}, is missing or "
            f"corrupted: {error}; restore {folder} from a backup, add the same files again with "
            f"`digits dataset add --dataset {name}`, or remove the batch with "
            f"`digits dataset remove --dataset {name} {batch.batch[:12]}`"
        ) from error


def read_batch(
    batch: Change, versions: DatasetVersions, layout: Layout
) -> Iterator[tuple[Images, Labels]]:
    """Yield the rows of a batch in chunks. Raises DataError if it is missing or corrupted."""
    verify_batch(batch, versions)
    yield from iter_split(versions.folder_of(batch.batch) / FILE, layout)


def sweep(versions: DatasetVersions) -> None:
    """Remove leftovers of a killed process; the caller must hold the lock on the versions."""
    for left in versions.folder.glob(f"{TEMPORARY}*"):
        discard(left)


def is_kept(batch: Change, versions: DatasetVersions) -> bool:
    """Whether a batch is stored exactly as it was accepted."""
    try:
        _inspect(versions.folder_of(batch.batch), batch, versions)
    except DamagedError:
        return False
    return True


def _inspect(folder: Path, batch: Change, versions: DatasetVersions) -> None:
    """Check every byte of a batch, after downloading it from the store if it is not here."""
    name, shared = _name(batch.batch, versions), versions.shared
    if shared and not _is_whole(folder, batch.manifest):
        shared.download(name, folder, batch.manifest)
    elif shared:
        shared.ensure(name, folder)
    Inspector().inspect(folder, batch.manifest)


def _name(batch: str, versions: DatasetVersions) -> str:
    """The name of a batch in the store."""
    return f"batches/{versions.dataset}/{batch}"


def _is_whole(folder: Path, manifest: str) -> bool:
    try:
        Inspector().inspect(folder, manifest)
    except DamagedError:
        return False
    return True
