"""Which layout files have, told by their names; and which files of a folder are of a layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from digits.datasets.sources.raw_files import role_of
from digits.errors import DataError
from digits.spec import FILE_LAYOUTS, FileLayout

SUFFIXES: Mapping[str, FileLayout] = {
    ".npz": "npz",
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
}
PATTERNS: Mapping[FileLayout, str] = {
    "idx": "a pair of IDX files (train-images.idx, train-labels.idx)",
    "npz": "an .npz",
    "parquet": "a .parquet file",
    "folder": "a tree of folders (CLASS/file.png)",
    "csv": "a .csv file",
}


def detect_layout(paths: Sequence[Path]) -> FileLayout:
    """The layout of files, or of what lies in a folder. Raises DataError where it is not clear."""
    found: set[FileLayout] = set()
    for path in paths:
        layout = _layout_of(path)
        if layout is not None:
            found.add(layout)
        elif path.is_dir():
            found |= {layout for layout in FILE_LAYOUTS if files_in(path, layout)}
    if len(found) != 1:
        named = ", ".join(map(str, paths[:3]))
        what = f"files of the layouts {', '.join(sorted(found))}" if found else "none of any layout"
        raise DataError(
            f"{named} holds {what}, expected one of {', '.join(FILE_LAYOUTS)}: .idx or -ubyte, "
            ".npz, .parquet, folders CLASS/file.png, or .csv"
        )
    return found.pop()


def files_in(path: Path, layout: FileLayout) -> list[Path]:
    """The files of a layout at a path: the file itself, those in the folder, or the folder."""
    if layout == "folder":
        return [path] if path.is_dir() and _is_tree(path) else []
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in inside if _layout_of(file) == layout]


def _layout_of(path: Path) -> FileLayout | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    if role_of(name):
        return "idx"
    return next((layout for suffix, layout in SUFFIXES.items() if name.endswith(suffix)), None)


def _is_tree(path: Path) -> bool:
    return any(one.is_dir() and not one.name.startswith(".") for one in path.iterdir())
