"""Finds the files of a layout at a path, and the splits that their names state."""

import heapq
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.thresholds import Split

WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}


def detect_layout(paths: Sequence[Path]) -> str:
    """Detect the layout of files, or of the files in a folder. Raises DataError if ambiguous."""
    found: set[str] = set()
    for path in paths:
        named = {name for name, layout in LAYOUTS.items() if layout.names and layout.matches(path)}
        found |= named or {name for name in LAYOUTS if path.is_dir() and files_in(path, name)}
    if len(found) != 1:
        places = ", ".join(map(str, paths[:3]))
        expected = "; ".join(f"{name}: {layout.files}" for name, layout in LAYOUTS.items())
        problem = f"files of several layouts found ({', '.join(sorted(found))})"
        problem = problem if found else "no supported files found"
        raise DataError(f"{places}: {problem}, expected one of {expected}")
    return found.pop()


def files_in(path: Path, layout: str) -> list[Path]:
    """Return the files of a layout at a path: the file, those in the folder, or the folder."""
    kind = LAYOUTS[layout]
    if kind.names is None:
        return [path] if kind.matches(path) else []
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in inside if kind.matches(file)]


@dataclass(frozen=True)
class ClassFolder:
    """A folder of pictures of one class; `name` is its path below the root, with slashes."""

    path: Path
    name: str
    label: str
    split: Split | None

    def file_names(self) -> list[str]:
        """List the names of its files in order, without hidden files."""
        # Names only: path objects for a million files take ten times the memory.
        return sorted(name for name in os.listdir(self.path) if not name.startswith("."))  # noqa: PTH208


def class_folders(root: Path) -> list[ClassFolder]:
    """List the class folders of a tree by name. Raises DataError if a split has no classes."""
    top = _folders(root)
    splits = {path: WORDS.get(path.name.lower()) for path in top}
    if not top or not all(splits.values()):
        return [ClassFolder(path, path.name, path.name, None) for path in top]
    is_split = len(set(splits.values())) > 1
    found = []
    for path, split in splits.items():
        inside = _folders(path)
        if not inside:
            raise DataError(f"{path}: no folders found (expected one for each class)")
        for folder in inside:
            name = f"{path.name}/{folder.name}"
            found.append(ClassFolder(folder, name, folder.name, split if is_split else None))
    return found


def pictures(folders: Sequence[ClassFolder]) -> Iterator[tuple[str, ClassFolder]]:
    """Yield each file's name and folder, ordered by name and then class, which mixes classes."""

    def of(number: int, folder: ClassFolder) -> Iterator[tuple[str, int, ClassFolder]]:
        return ((name, number, folder) for name in folder.file_names())

    mixed = heapq.merge(*map(of, range(len(folders)), folders), key=lambda one: one[:2])
    return ((name, folder) for name, _, folder in mixed)


def split_of(name: str) -> Split | None:
    """Return the split that a file or folder name states: train.csv, test-00000-of-00002."""
    said = {WORDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in WORDS}
    return said.pop() if len(said) == 1 else None


def splits_of(files: Sequence[Path]) -> dict[Path, Split | None]:
    """Return the split of each file; None for all unless their names state both splits."""
    found = {file: split_of(file.name) for file in files}
    return found if set(found.values()) >= {"train", "test"} else dict.fromkeys(files)


def _folders(path: Path) -> list[Path]:
    inside = (one for one in path.iterdir() if not one.name.startswith("."))
    return sorted(one for one in inside if one.is_dir())
