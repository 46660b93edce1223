"""Class folders: a tree of pictures, CLASS/file or SPLIT/CLASS/file, at any depth below a root."""

import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from digits.datasets.defects import refuse
from digits.datasets.files.file_names import SaidSplit, in_effect, parse_name
from digits.datasets.files.ignored import is_ignored, is_marker
from digits.datasets.files.inventory import Inventory
from digits.thresholds import Split

TREE = "one folder for each class, or train/CLASS and test/CLASS"
NUM_SHOWN = 5


@dataclass(frozen=True)
class ClassFolder:
    """A folder of pictures of one class; `name` is its path below the root, with slashes.

    `said` is the split that the folder above it states; `split` is the one that counts.
    """

    path: Path
    name: str
    label: str
    split: Split | None
    said: SaidSplit | None

    def file_names(self) -> list[str]:
        """List the names of its pictures in order."""
        # Names only: path objects for a million files take ten times the memory.
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries if not entry.is_dir()]
        return sorted(name for name in names if not is_ignored(name) and not is_marker(name))


def class_folders(root: Path) -> list[ClassFolder]:
    """List the class folders of a tree by name. Folders without any file do not count.

    Raises DefectError naming the folders or files that have no place in such a tree.
    """
    found = Inventory.of([root])
    below = {path: path.relative_to(root).parts for path in found.pictures}
    found.check("folder", has_documents=False)
    depth = _common_depth([parts[:-1] for parts in below.values()])
    if not below:
        refuse("empty_file", str(root), "has no folders of pictures", TREE)
    if () in below.values():
        _refuse_loose(root, below)
    named = {path: parse_name(parts[depth]) for path, parts in below.items()}
    said = {path: name.split for path, name in named.items()}
    is_split = all(len(parts) == depth + 2 and said[path] for path, parts in below.items())
    if not is_split:
        _check_flat(root, below, said, depth)
        said = dict.fromkeys(below)
    elif len({(name.split, name.series) for name in named.values()}) > len(set(said.values())):
        tops = sorted({_top(root, parts, depth) for parts in below.values()})
        several = f"has several sets of one split: {_named(tops)}"
        refuse("file_type", str(root), several, f"{TREE}; move all but one of a split elsewhere")
    splits = in_effect(said)
    folders = [
        ClassFolder(path, "/".join(parts), parts[-1], splits[path], said[path])
        for path, parts in below.items()
    ]
    return sorted(folders, key=lambda folder: folder.name)


def pictures(folders: Sequence[ClassFolder]) -> Iterator[tuple[str, ClassFolder]]:
    """Yield each file's name and folder, ordered by name and then class, which mixes classes."""

    def of(number: int, folder: ClassFolder) -> Iterator[tuple[str, int, ClassFolder]]:
        return ((name, number, folder) for name in folder.file_names())

    mixed = heapq.merge(*map(of, range(len(folders)), folders), key=lambda one: one[:2])
    return ((name, folder) for name, _, folder in mixed)


def _common_depth(paths: Sequence[tuple[str, ...]]) -> int:
    """Return the number of folders above all others, which are part of the root."""
    levels = (len(set(level)) == 1 for level in zip(*paths, strict=False))
    return len(list(takewhile(bool, levels)))


def _refuse_loose(root: Path, below: dict[Path, tuple[str, ...]]) -> None:
    if len(below) > 1:
        expected = f"{TREE}; move them into the folders of their classes, or elsewhere"
        refuse("file_type", str(root), "has pictures beside its class folders", expected)
    above = Inventory.of([root.parent]).pictures if root.parent != root else {}
    siblings = [path for path in above if path.parent == root.parent and path != root]
    hint = f"; {root.parent} has such folders: name it instead" if siblings else ""
    refuse("file_type", str(root), "has pictures, but no class folders", f"{TREE}{hint}")


def _check_flat(
    root: Path,
    below: dict[Path, tuple[str, ...]],
    said: dict[Path, SaidSplit | None],
    depth: int,
) -> None:
    """Check that all folders are class folders on one level."""
    flat = {path: parts[depth] for path, parts in below.items() if len(parts) == depth + 1}
    deep = [path for path in below if path not in flat]
    if not deep:
        if len(flat) > 1 and all(said.values()):
            found = f"has pictures directly in {_named(list(flat))}, without their classes"
            refuse("label_missing", str(root), found, TREE)
        return
    if flat and all(said[path] for path in deep):
        others = sorted({_top(root, below[path], depth) for path in deep})
        found = f"has pictures without class folders in {_named(list(flat))}"
        expected = f"{TREE}; images without labels cannot be used: move them elsewhere, or name "
        refuse("label_missing", str(root), found, f"{expected}{_named(others)} alone")
    if len(flat) == 1 and len(below) > 2 and all(next(iter(flat)) in path.parents for path in deep):
        _refuse_loose(next(iter(flat)), below)
    if flat:
        found = f"has folders of pictures inside class folders: {_named(deep)}"
        refuse("file_type", str(root), found, f"{TREE}; move them elsewhere or one level up")
    tops = sorted({_top(root, parts, depth) for parts in below.values()})
    found = f"has several trees of class folders: {_named(tops)}"
    refuse("file_type", str(root), found, f"{TREE}; name one of them instead, or rename its splits")


def _top(root: Path, parts: tuple[str, ...], depth: int) -> Path:
    return root.joinpath(*parts[: depth + 1])


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:NUM_SHOWN])) + (" ..." if len(paths) > NUM_SHOWN else "")
