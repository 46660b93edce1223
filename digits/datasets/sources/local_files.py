"""A dataset's local files, in any layout: found, hashed, and watched for changes."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from digits.datasets.files.class_folders import ClassFolder, class_folders
from digits.datasets.files.file_layouts import dataset_files, names_of
from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.storage.files import Signature, file_digest, printable, signature_of


@dataclass(frozen=True)
class Measured:
    """SHA-256 of a file or of all files in a folder, with a signature that changes on writes."""

    sha256: str
    signature: Signature


def find_files(layout: str, places: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return the files at each place that has any; for layout "folder", the tree's root.

    Raises DataError if a place cannot be read, or not completely.
    """
    found = {}
    for place in places:
        try:
            files = dataset_files(layout, place) if place.exists() else []
        except OSError as error:
            raise DataError(f"{place} cannot be read: {error.strerror}") from error
        if files:
            found[place] = files
    return found


def measure(layout: str, files: Sequence[Path]) -> Mapping[str, Measured]:
    """Measure each file, or for layout "folder" each class folder, by its path in the tree.

    Raises DataError for unreadable files.
    """
    try:
        if LAYOUTS[layout].names is not None:
            return {name: _measure_file(path) for path, name in names_of(files).items()}
        return {folder.name: _measure_folder(folder) for folder in _inside(files)}
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read: {error.strerror}; make it readable or move it away"
        ) from error


def signatures(layout: str, files: Sequence[Path]) -> Mapping[str, Signature]:
    """Return the signatures of `measure` without reading any file; missing files are omitted."""
    try:
        if LAYOUTS[layout].names is not None:
            named = names_of(files).items()
            return {name: signature_of(path) for path, name in named if path.exists()}
        return {folder.name: _signature_of_folder(folder) for folder in _inside(files)}
    except (OSError, DataError):
        return {}


def _inside(roots: Sequence[Path]) -> list[ClassFolder]:
    # Their names go into records, which are UTF-8.
    return [
        replace(folder, name=printable(folder.name))
        for root in roots
        for folder in class_folders(root)
    ]


def _measure_file(path: Path) -> Measured:
    # Reading a pipe could block forever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path} is not a regular file")
    signature = signature_of(path)
    return Measured(file_digest(path), signature)


def _measure_folder(folder: ClassFolder) -> Measured:
    signature, digest = _signature_of_folder(folder), hashlib.sha256()
    for name in folder.file_names():
        path = folder.path / name
        is_file = stat.S_ISREG(path.stat().st_mode)
        found = file_digest(path) if is_file else "no plain file"
        digest.update(os.fsencode(f"{found} {name}\0"))
    return Measured(digest.hexdigest(), signature)


def _signature_of_folder(folder: ClassFolder) -> Signature:
    digest = hashlib.sha256()
    for name in folder.file_names():
        digest.update(os.fsencode(f"{signature_of(folder.path / name)} {name}\0"))
    return digest.hexdigest()
