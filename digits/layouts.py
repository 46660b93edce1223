"""The supported file layouts of datasets and batches.

To add a layout, write a reader in a file in digits/datasets/formats and add an entry to LAYOUTS.
"""

import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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

    def matches(self, name: str) -> bool:
        """Return whether a file of this name has this layout."""
        return self.names is not None and re.fullmatch(self.names, name.lower()) is not None

    def read(self, *arguments: Any) -> Iterable[Any]:
        """Read files; see Reader."""
        reader = self.reader
        return (pkgutil.resolve_name(reader) if isinstance(reader, str) else reader)(*arguments)


LAYOUTS: Mapping[str, FileLayout] = MappingProxyType(
    {
        "idx": FileLayout(
            files="a pair of IDX files (train-images.idx, train-labels.idx)",
            names=r"(?=.*(image|img|label|lbl|idx[123])).*"
            r"(\.idx[123]?|[-._]idx[123]([-._](ubyte|int))?|[-.]ubyte)(\.gz)?",
            reader="digits.datasets.formats.idx_files:read_idx",
        ),
        "npz": FileLayout(
            files="an .npz, or a pair of .npy or .npz files (x_train.npy, y_train.npy)",
            names=r".*\.np[yz]",
            reader="digits.datasets.formats.npz_arrays:read_npz_arrays",
        ),
        "parquet": FileLayout(
            files="a .parquet file",
            names=r".*\.(parquet|parq|pq)",
            reader="digits.datasets.formats.parquet_files:read_parquet",
        ),
        "folder": FileLayout(
            files="a tree of folders (CLASS/file.png)",
            names=None,
            reader="digits.datasets.formats.image_folders:read_folders",
        ),
        "csv": FileLayout(
            files="a .csv file",
            names=r".*\.(csv|tsv)(\.gz)?",
            reader="digits.datasets.formats.csv_files:read_csv",
        ),
    }
)
