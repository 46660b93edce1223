"""ReadOptions labelled images from files of any layout, in batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from digits.datasets.formats.chunks import LabeledChunk, RawChunk
from digits.datasets.formats.cleaning import clean
from digits.datasets.formats.csv_files import read_csv
from digits.datasets.formats.idx_files import read_idx
from digits.datasets.formats.image_folders import read_folders
from digits.datasets.formats.npz_arrays import read_npz_arrays
from digits.datasets.formats.parquet_files import read_parquet
from digits.defects import Defects
from digits.errors import DataError
from digits.spec import DatasetSpec, FileLayout, ImageShape, Layout, ReadOptions

Reader = Callable[[Sequence[Path], ImageShape | None, ReadOptions, Defects], Iterable[RawChunk]]

# A step's key reaches only the reader of its layout: see digits.cache.keys.
READERS: Mapping[FileLayout, Reader] = {
    "idx": read_idx,
    "npz": read_npz_arrays,
    "parquet": read_parquet,
    "folder": read_folders,
    "csv": read_csv,
}


def read_chunks(
    files: Sequence[Path], spec: DatasetSpec, defects: Defects
) -> Iterator[LabeledChunk]:
    """Images, labels and split of files in the layout of a spec, a batch at a time.

    `files` are the files (of the layout "folder": the roots of the trees). Rows that fail a check
    go to `defects`, whose `judge` says in the end what that means. Raises DataError naming the
    file where nothing of it can be used.
    """
    return read_files(files, spec.layout, spec.read_options, defects)


def read_files(
    files: Sequence[Path], layout: Layout, read_options: ReadOptions, defects: Defects
) -> Iterator[LabeledChunk]:
    """What `read_chunks` says, by the two parts of a spec that it depends on."""
    batches = read_raw(files, layout.image_shape, read_options, defects)
    return clean(batches, layout, read_options.pixel_range, defects)


def read_raw(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    read_options: ReadOptions,
    defects: Defects,
) -> Iterator[RawChunk]:
    """Rows as the files have them; without `image_shape` of whatever size the first image has."""
    try:
        yield from READERS[read_options.file_layout](files, image_shape, read_options, defects)
    except OSError as error:
        raise DataError(
            f"{error.filename or files[0]} cannot be read: {error.strerror or error}; make it "
            "readable or move it away"
        ) from error
