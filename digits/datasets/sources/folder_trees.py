"""The files of a folder tree of pictures: CLASS/file.png, or train/CLASS/..., test/CLASS/..."""

import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.datasets.sources.filenames import WORDS
from digits.errors import DataError
from digits.thresholds import Split


@dataclass(frozen=True)
class ClassFolder:
    """A folder of pictures of one class; `name` is its path below the root, with slashes."""

    path: Path
    name: str
    label: str
    split: Split | None

    def file_names(self) -> list[str]:
        """What lies in it, sorted; hidden files are not counted."""
        # Names alone: a path object for each of a million files takes ten times the memory.
        return sorted(name for name in os.listdir(self.path) if not name.startswith("."))  # noqa: PTH208


def class_folders(root: Path) -> list[ClassFolder]:
    """The class folders of a tree, sorted by name. Raises DataError for a split without classes."""
    top = _folders(root)
    splits = {path: WORDS.get(path.name.lower()) for path in top}
    if not top or not all(splits.values()):
        return [ClassFolder(path, path.name, path.name, None) for path in top]
    is_split = len(set(splits.values())) > 1
    found = []
    for path, split in splits.items():
        inside = _folders(path)
        if not inside:
            raise DataError(f"{path} holds no folders, expected one for each class")
        for folder in inside:
            name = f"{path.name}/{folder.name}"
            found.append(ClassFolder(folder, name, folder.name, split if is_split else None))
    return found


def pictures(folders: Sequence[ClassFolder]) -> Iterator[tuple[str, ClassFolder]]:
    """Each file's name and folder, by name and then by class, so that the classes are mixed."""

    def of(number: int, folder: ClassFolder) -> Iterator[tuple[str, int, ClassFolder]]:
        return ((name, number, folder) for name in folder.file_names())

    mixed = heapq.merge(*map(of, range(len(folders)), folders), key=lambda one: one[:2])
    return ((name, folder) for name, _, folder in mixed)


def _folders(path: Path) -> list[Path]:
    inside = (one for one in path.iterdir() if not one.name.startswith("."))
    return sorted(one for one in inside if one.is_dir())
