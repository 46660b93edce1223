"""Names the parts of a dataset that are meant for validation, a third split."""

from collections.abc import Sequence
from pathlib import Path

from digits.datasets.files.class_folders import class_folders
from digits.datasets.files.file_layouts import names_of, said_splits
from digits.datasets.formats.npz_members import find_pairs
from digits.datasets.sources.npz import MALFORMED
from digits.layouts import LAYOUTS


def validation_parts(layout: str, files: Sequence[Path]) -> list[str]:
    """Return the names of the files, folders or arrays that state a validation split."""
    if LAYOUTS[layout].names is None:
        folders = [folder for root in files for folder in class_folders(root)]
        said = {folder.name.rpartition("/")[0] for folder in folders if folder.said == "validation"}
        return sorted(said)
    if layout == "npz":
        try:
            pairs = find_pairs(files)
        except MALFORMED:  # The reader reports it.
            return []
        return [pair.images.name for pair in pairs if pair.said == "validation"]
    names = names_of(files)
    return [names[file] for file, said in said_splits(files).items() if said == "validation"]
