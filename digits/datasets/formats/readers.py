"""Reads labeled images from files of any layout, in chunks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import LabeledChunk, RawChunk
from digits.datasets.formats.cleaning import clean
from digits.datasets.sources.raw_files import check_kind
from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.spec import DatasetSpec, ImageShape, Layout, ReadOptions

SIGNED = {"idx": "idx", "npz": "zip", "parquet": "parquet", "csv": None}
"""Kind of content, by its first bytes, that the files of a layout must have, if any."""


def read_chunks(
    files: Sequence[Path], spec: DatasetSpec, defects: Defects
) -> Iterator[LabeledChunk]:
    """Yield images, labels and split from files in the layout of a spec, in chunks.

    For the layout "folder", `files` are the roots of the folder trees. Rows that fail a check are
    recorded in `defects`; call its `enforce` at the end. Raises DataError naming a file that cannot
    be used at all.
    """
    return read_files(files, spec.layout, spec.read_options, defects)


def read_files(
    files: Sequence[Path], layout: Layout, read_options: ReadOptions, defects: Defects
) -> Iterator[LabeledChunk]:
    """Do the same as `read_chunks`, given the two parts of a spec that it depends on."""
    shape = read_options.stored(layout.image_shape)
    chunks = read_raw(files, shape, read_options, defects)
    if read_options.transposed:
        chunks = (_upright(chunk, shape) for chunk in chunks)
    return clean(
        chunks,
        layout,
        read_options.pixel_range,
        defects,
        first_label=read_options.first_label,
    )


def _upright(chunk: RawChunk, stored: ImageShape) -> RawChunk:
    """Turn the images of a chunk, `stored` each; `clean` refuses values of another size."""
    values = chunk.values
    if values.ndim == 2 and values.shape[1] == math.prod(stored):
        values = values.reshape(-1, *stored)
    if values.ndim != 3:
        return chunk
    return replace(chunk, values=np.ascontiguousarray(values.transpose(0, 2, 1)))


def read_raw(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    read_options: ReadOptions,
    defects: Defects,
) -> Iterator[RawChunk]:
    """Yield rows as stored in the files; without `image_shape`, all have the first image's size."""
    layout = read_options.file_layout
    try:
        check_kinds(files, layout)
        yield from LAYOUTS[layout].read(files, image_shape, read_options, defects)
    except OSError as error:
        raise DataError(
            f"{error.filename or files[0]} cannot be read: {error.strerror or error}; make it "
            "readable or move it away"
        ) from error


def check_kinds(files: Sequence[Path], layout: str) -> None:
    """Raise DefectError for a file that is of another kind than its layout's, naming what it is."""
    for path in files:
        if layout in SIGNED and path.is_file():
            wanted = "npy" if path.suffix == ".npy" else SIGNED[layout]
            unpack = layout in {"idx", "csv"}
            check_kind(path, wanted, LAYOUTS[layout].files, unpack=unpack)
