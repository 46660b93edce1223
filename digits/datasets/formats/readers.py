"""ReadOptions labelled images from files of any layout, in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import LabeledChunk, RawChunk
from digits.datasets.formats.cleaning import clean
from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.spec import DatasetSpec, ImageShape, Layout, ReadOptions


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
        yield from LAYOUTS[read_options.file_layout].read(files, image_shape, read_options, defects)
    except OSError as error:
        raise DataError(
            f"{error.filename or files[0]} cannot be read: {error.strerror or error}; make it "
            "readable or move it away"
        ) from error
