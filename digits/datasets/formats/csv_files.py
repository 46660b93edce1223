"""CSV files, optionally as .gz, with a label and pixels per line, read in chunks."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pc

from digits.datasets.defects import Defects
from digits.datasets.files.file_layouts import splits_of
from digits.datasets.formats.chunks import RawChunk, RowNames, rows_at_once
from digits.datasets.formats.tables.csv_columns import Table, decide
from digits.datasets.formats.tables.csv_dialects import MAX_LINE, TO_UTF8, Line, lines_of
from digits.spec import ImageShape, ReadOptions
from digits.thresholds import Split


def read_csv(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    read_options: ReadOptions,
    defects: Defects,
) -> Iterator[RawChunk]:
    """Yield the rows of CSV files, sorted by filename; the first line may be a header.

    Values are separated by commas, semicolons, tabs, bars or spaces. Raises DefectError naming the
    file and the problem.
    """
    splits = splits_of(files)
    for table in decide(sorted(files), image_shape, read_options.label_column, defects):
        yield from _Reader(table, splits[table.start.path]).read(defects)


class _Reader:
    """Reads one file."""

    def __init__(self, table: Table, split: Split | None) -> None:
        self._table, self._split = table, split
        self._start, self._dialect = table.start, table.start.dialect
        self._path = table.start.path

    def read(self, defects: Defects) -> Iterator[RawChunk]:
        first, size = self._start.first_line, rows_at_once(self._start.num_columns * 8)
        with closing(lines_of(self._path, self._dialect.encoding)) as all_lines:
            lines = dropwhile(lambda line: line[0] < first, all_lines)
            while some := list(islice(lines, size)):
                yield from self._chunks(some, defects)

    def _chunks(self, lines: list[Line], defects: Defects) -> Iterator[RawChunk]:
        """Parse lines all at once, or one by one to find the invalid ones."""
        numbers: Sequence[int] = [number for number, _ in lines]
        table = self._parsed([self._dialect.plain(line) for _, line in lines])
        if table is None:
            good = [row for line in lines if (row := self._row(*line, defects)) is not None]
            if not good:
                return
            numbers = [number for number, _, _ in good]
            labels = np.array([label for _, label, _ in good], np.object_)
            values = np.array([pixels for _, _, pixels in good], np.float64)
        else:
            labels, values = table
        names = RowNames(str(self._path), numbers, "line")
        yield RawChunk(values, labels, self._split, names)

    def _parsed(self, lines: list[bytes]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
        """Return labels and pixels, or None if any line is invalid."""
        columns = [str(place) for place in range(self._start.num_columns)]
        types = dict.fromkeys(columns, pa.string())
        types |= {columns[place]: pa.float64() for place in self._table.pixels}
        try:
            table = pc.read_csv(
                io.BytesIO(b"\n".join(lines)),
                read_options=pc.ReadOptions(
                    column_names=columns, use_threads=False, block_size=len(lines) * MAX_LINE
                ),
                parse_options=pc.ParseOptions(
                    delimiter=self._dialect.separator, newlines_in_values=False
                ),
                convert_options=pc.ConvertOptions(column_types=types, null_values=[""]),
            )
        except (pa.ArrowException, OSError):
            return None
        if len(table) != len(lines):
            return None
        labels = table.column(self._table.label).to_pylist()
        pixels = [table.column(place).to_numpy() for place in self._table.pixels]
        return np.array([label or "" for label in labels], np.object_), np.stack(pixels, axis=1)

    def _row(
        self, number: int, line: bytes, defects: Defects
    ) -> tuple[int, str, list[float]] | None:
        """Return a line's number, label and pixels, or None after recording its defect."""
        place, cells = [f"{self._path}, line {number}"], self._dialect.cells(line)
        if cells is None:
            defects.add("value_type", place, "is not text", TO_UTF8)
            return None
        if len(cells) != self._start.num_columns:
            found = f"has {len(cells):,} values"
            expected = f"{self._start.num_columns:,}: label and pixels"
            defects.add("image_size", place, found, expected)
            return None
        try:
            pixels = [float(cells[place] or "nan") for place in self._table.pixels]
        except ValueError as error:
            defects.add(
                "value_type", place, f"has an invalid number: {error}", "one number per pixel"
            )
            return None
        return number, cells[self._table.label], pixels
