"""Accounts for every file below some paths: of a layout, a picture, a document, or none of these.

Whoever reads files must get "nothing is left over" first: what was not read could be lost.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from digits.datasets.defects import refuse
from digits.datasets.files.ignored import is_ignored, is_marker
from digits.errors import DataError
from digits.layouts import LAYOUTS

PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
)
# PNG, JPEG, BMP, GIF, TIFF (two byte orders), WebP.
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
DOCUMENTS = frozenset({"readme", "license", "licence", "copying", "citation", "changelog"})
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
TABLES = frozenset({".txt", ".data", ".dat", ".tab", ".asc"})
OTHER_FORMATS = frozenset(
    {".arrow", ".feather", ".h5", ".hdf5", ".mat", ".pt", ".pkl", ".pickle", ".xlsx", ".jsonl"}
)
NUM_SHOWN = 5
MAX_DEPTH = 32


@dataclass
class Inventory:
    """What is below `roots`, without what is ignored.

    `files` are those of each layout, `pictures` counts those of each folder, and `others` are
    neither; `documents` are README files and licenses.
    """

    roots: tuple[Path, ...]
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    pictures: dict[Path, int] = field(default_factory=lambda: defaultdict(int))
    documents: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, roots: Sequence[Path]) -> Self:
        """Take stock of files and folders. Raises OSError for an unreadable folder."""
        found = cls(tuple(roots))
        for root in roots:
            if root.is_dir():
                for folder, names in _walk(root):
                    for name in names:
                        found._add(folder, name)
            elif not is_ignored(root.name):
                found._add(root.parent, root.name)
        return found

    @property
    def layouts(self) -> list[str]:
        """The layouts that are present."""
        trees = [name for name, layout in LAYOUTS.items() if layout.names is None]
        return sorted({*self.files, *(trees if self.pictures else [])})

    def layout(self) -> str:
        """The only layout that is present. Raises DataError if there is none or several."""
        found = self.layouts
        if len(found) == 1:
            return found[0]
        places = ", ".join(map(str, self.roots[:3]))
        if found:
            examples = "; ".join(f"{name}: {self._example(name)}" for name in found)
            raise DataError(
                f"{places}: files of several layouts found ({', '.join(found)}), for example "
                f"{examples}; name the files or the folder that are meant, or move the others "
                "elsewhere"
            )
        expected = "; ".join(f"{name}: {layout.files}" for name, layout in LAYOUTS.items())
        left = self.others + self.documents
        problem = f"no supported files found{_listed(left, ', only ')}"
        raise DataError(f"{places}: {problem}, expected one of {expected}")

    def left_over(self, layout: str, *, has_documents: bool) -> list[Path]:
        """The files that reading this layout would leave out."""
        others = self.others + (self.documents if has_documents else [])
        left = [path for name, paths in self.files.items() if name != layout for path in paths]
        if LAYOUTS[layout].names is None:
            # The reader reports what is in class folders and is no picture.
            return left + [path for path in others if path.parent not in self.pictures]
        left = [path for path in left if path not in self.files[layout]]
        return left + list(self.pictures) + others

    def check(self, layout: str, *, has_documents: bool) -> None:
        """Raise DefectError naming what reading this layout would leave out.

        In a dataset, documents may stay; a batch is deleted after it was added.
        """
        left = self.left_over(layout, has_documents=has_documents)
        if left:
            places = ", ".join(map(str, self.roots[:3]))
            number = f"{len(left):,} entr{'ies' if len(left) > 1 else 'y'}"
            is_tree = LAYOUTS[layout].names is None
            narrower = "" if is_tree else f", or name only what is meant: {self._example(layout)}"
            refuse(
                "file_type",
                places,
                f"contains {number} that would not be read as {layout}{_listed(left, ': ')}",
                f"nothing but {LAYOUTS[layout].files}; move the rest elsewhere{narrower}",
            )

    def _add(self, folder: Path, name: str) -> None:
        stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122  (called for each picture)
        if suffix in PICTURES and not _layouts_of(f"x{suffix}"):
            self.pictures[folder] += 1
            return
        layouts = _layouts_of(name)
        path = folder / name
        for layout in layouts:
            self.files[layout].append(path)
        if layouts:
            return
        if stem.split(".")[0] in DOCUMENTS or suffix in {".md", ".rst"}:
            self.documents.append(path)
        elif _is_picture(path):
            self.pictures[folder] += 1
        else:
            self.others.append(path)

    def _example(self, layout: str) -> Path:
        return next(iter(self.files.get(layout) or self.pictures))


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with the sorted names of its files, without what is ignored."""
    waiting: list[Path] = [root]
    links: set[tuple[int, int]] = set()
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            shown = sorted(
                (entry for entry in entries if not is_ignored(entry.name)),
                key=lambda entry: entry.name,
            )
        folders = [entry for entry in shown if entry.is_dir()]
        yield folder, [e.name for e in shown if not e.is_dir() and not is_marker(e.name)]
        for link in filter(os.DirEntry.is_symlink, folders):
            _check_link(link, links)
        if folders and len(folder.relative_to(root).parts) == MAX_DEPTH:
            found = f"is below {MAX_DEPTH} nested folders"
            refuse("unbounded", folders[0].path, found, "the folder of the data itself")
        waiting += [folder / entry.name for entry in reversed(folders)]


def _check_link(link: "os.DirEntry[str]", known: set[tuple[int, int]]) -> None:
    """Refuse a second link to a folder, which may lead in a circle."""
    status = link.stat()
    if (status.st_dev, status.st_ino) in known:
        refuse("file_type", link.path, "is a second link to one folder", "a folder; remove it")
    known.add((status.st_dev, status.st_ino))


@functools.lru_cache(maxsize=4096)
def _layouts_of(name: str) -> tuple[str, ...]:
    return tuple(key for key, layout in LAYOUTS.items() if layout.matches(name))


def _is_picture(path: Path) -> bool:
    """Whether a file without a usual suffix starts like a picture."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(STARTS)


def _listed(paths: Sequence[Path], before: str) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - NUM_SHOWN:,} more" if len(paths) > NUM_SHOWN else ""
    return before + "; ".join(f"{path}{_advice(path)}" for path in paths[:NUM_SHOWN]) + more


def _advice(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.is_dir():
        return " (pictures)"
    if suffix in ARCHIVES:
        return " (unpack it)"
    if suffix in TABLES:
        return " (if it is a table of labels and pixels, rename it to .csv)"
    if suffix in OTHER_FORMATS:
        return " (save it as .npz, .parquet or .csv)"
    if suffix in {".part", ".crdownload", ".download", ".tmp"}:
        return " (an unfinished download)"
    return ""
