"""The supported file layouts of datasets and batches.

To add a layout, write a reader in a file in digits/datasets/formats and add an entry to LAYOUTS.
"""

import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

Reader = Callable[..., Iterable[Any]]
"""Reads files: (paths, image shape or None, ReadOptions, Defects) to an iterable of RawChunk."""


@dataclass(frozen=True)
class FileLayout:
    """A way in which files store labeled images.

    `files` describes the files in messages. `names` is a regular expression for their names in
    lower case; None if the images are in class folders instead. A reader given as "module:function"
    is imported, with the libraries that it needs, only when files are read.
    """

    files: str
    names: str | None
    reader: str | Reader

    def matches(self, path: Path) -> bool:
        """Return whether a path is a file (by name only) or a folder tree of this layout."""
        if self.names is None:
            return path.is_dir() and any(
                one.is_dir() and not one.name.startswith(".") for one in path.iterdir()
            )
        name = path.name.lower()
        return not name.startswith(".") and re.fullmatch(self.names, name) is not None

    def read(self, *arguments: Any) -> Iterable[Any]:
        """Read files; see Reader."""
        reader = self.reader
        return (pkgutil.resolve_name(reader) if isinstance(reader, str) else reader)(*arguments)


LAYOUTS: Mapping[str, FileLayout] = MappingProxyType(
    {
        "idx": FileLayout(
            files="a pair of IDX files (train-images.idx, train-labels.idx)",
            names=r"(?=.*(image|label|idx1|idx3)).*(\.idx|[.-]ubyte)(\.gz)?",
            reader="digits.datasets.formats.idx_files:read_idx",
        ),
        "npz": FileLayout(
            files="an .npz",
            names=r".*\.npz",
            reader="digits.datasets.formats.npz_arrays:read_npz_arrays",
        ),
        "parquet": FileLayout(
            files="a .parquet file",
            names=r".*\.parquet",
            reader="digits.datasets.formats.parquet_files:read_parquet",
        ),
        "folder": FileLayout(
            files="a tree of folders (CLASS/file.png)",
            names=None,
            reader="digits.datasets.formats.image_folders:read_folders",
        ),
        "csv": FileLayout(
            files="a .csv file",
            names=r".*\.csv(\.gz)?",
            reader="digits.datasets.formats.csv_files:read_csv",
        ),
    }
)
