"""CSV files, optionally as .gz, with a label and pixels per line, read in chunks."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pc

from digits.datasets.defects import Defects, refuse
from digits.datasets.formats.chunks import LABEL_NAMES, RawChunk, RowNames, rows_at_once
from digits.datasets.sources.archives import MAX_IMAGES
from digits.datasets.sources.file_layouts import splits_of
from digits.datasets.sources.raw_files import open_plain
from digits.spec import MAX_SIDE, Column, ImageShape, ReadOptions
from digits.thresholds import Split

MAX_COLUMNS = MAX_SIDE * MAX_SIDE + 1
# A number of 64 bits takes 24 characters.
MAX_LINE = MAX_COLUMNS * 26
# Limit of a .gz after decompression: a million lines of the largest images.
MAX_BYTES = MAX_IMAGES * MAX_LINE
# Empty and invalid lines are not images, but take time.
MAX_LINES = 2 * MAX_IMAGES
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Lines = list[tuple[int, bytes]]


def read_csv(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    read_options: ReadOptions,
    defects: Defects,
) -> Iterator[RawChunk]:
    """Yield the rows of CSV files, sorted by filename; the first line may be a header.

    Raises DefectError naming the file and the problem.
    """
    splits = splits_of(files)
    for path in sorted(files):
        with closing(open_plain(path, MAX_BYTES)) as file:
            table = _Table(path, splits[path], image_shape, read_options.label_column)
            yield from table.read(file, defects)


def label_by_header(path: Path) -> str | None:
    """Return the name of the label column in the header, or None if there is none."""
    with closing(open_plain(path, MAX_BYTES)) as file:
        cells = _cells(file.readline(MAX_LINE).removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")) or []
    return _named_label(cells) if _is_header(cells) else None


class _Table:
    """One file, with the position of its label column and its number of columns."""

    def __init__(
        self,
        path: Path,
        split: Split | None,
        image_shape: ImageShape | None,
        label_column: Column | None,
    ) -> None:
        self._path, self._split, self._given = path, split, label_column
        self._num_pixels = image_shape[0] * image_shape[1] if image_shape else None

    def read(self, file: BinaryIO, defects: Defects) -> Iterator[RawChunk]:
        lines = self._lines(file)
        first = next(lines, None)
        if first is None:
            refuse("empty_file", str(self._path), "is empty", "one line per image")
        has_header = self._look_at(first[1])
        if not has_header:
            lines = _chained(first, lines)
        is_empty = True
        while some := list(islice(lines, rows_at_once(self._num_columns * 8))):
            is_empty = False
            yield from self._chunks(some, defects)
        if is_empty:
            refuse("empty_file", str(self._path), "has no rows", "one line per image")

    def _lines(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        """Yield the number (from 1) and content of each line that is not empty."""
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                place = f"{self._path}, line {number}"
                refuse("unbounded", place, f"has more than {MAX_LINE:,} bytes", "a line of pixels")
            if number > MAX_LINES:
                expected = "fewer; divide it into several files"
                refuse("unbounded", str(self._path), f"has over {MAX_LINES:,} lines", expected)
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if line.strip():
                yield number, line.rstrip(b"\r\n")

    def _look_at(self, line: bytes) -> bool:
        """Find the label column in the first line; return whether that line is a header."""
        cells = _cells(line)
        if cells is None:
            refuse("corrupt_file", str(self._path), "is not text", "comma-separated numbers")
        self._num_columns, pixels = len(cells), self._num_pixels
        label = self._given
        is_header = isinstance(label, str) or _is_header(cells)
        if label is None and is_header:
            label = _named_label(cells)
        place = f"{self._path}, line 1"
        if isinstance(label, str):
            if label not in cells:
                found = f"has the columns {', '.join(cells[:6])} ..."
                refuse("label_missing", place, found, f"a label column named {label}")
            label = cells.index(label)
        if pixels is not None and len(cells) == pixels:
            refuse("label_missing", place, f"has {pixels:,} columns", "one more, for the label")
        if not 2 <= len(cells) <= MAX_COLUMNS or pixels not in {None, len(cells) - 1}:
            expected = f"{pixels + 1:,}" if pixels else f"2 to {MAX_COLUMNS:,}"
            refuse("image_size", place, f"has {len(cells):,} columns", f"{expected}: label, pixels")
        self._label = (label or 0) % len(cells)
        return is_header

    def _chunks(self, lines: Lines, defects: Defects) -> Iterator[RawChunk]:
        """Parse lines all at once, or one by one to find the invalid ones."""
        numbers: Sequence[int] = [number for number, _ in lines]
        table = self._parsed([line for _, line in lines])
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
        columns = [str(place) for place in range(self._num_columns)]
        types = dict.fromkeys(columns, pa.float64())
        types[columns[self._label]] = pa.string()
        try:
            table = pc.read_csv(
                io.BytesIO(b"\n".join(lines)),
                read_options=pc.ReadOptions(
                    column_names=columns, use_threads=False, block_size=len(lines) * MAX_LINE
                ),
                parse_options=pc.ParseOptions(newlines_in_values=False),
                convert_options=pc.ConvertOptions(column_types=types, null_values=[""]),
            )
        except (pa.ArrowException, OSError):
            return None
        if len(table) != len(lines):
            return None
        labels = table.column(self._label).to_pylist()
        pixels = [column.to_numpy() for column in table.remove_column(self._label).columns]
        return np.array(labels, np.object_), np.stack(pixels, axis=1)

    def _row(
        self, number: int, line: bytes, defects: Defects
    ) -> tuple[int, str, list[float]] | None:
        """Return a line's number, label and pixels, or None after recording its defect."""
        place, cells = [f"{self._path}, line {number}"], _cells(line)
        if cells is None:
            defects.add("value_type", place, "is not text", "comma-separated numbers")
            return None
        if len(cells) != self._num_columns:
            found = f"has {len(cells):,} values"
            defects.add("image_size", place, found, f"{self._num_columns:,}: label and pixels")
            return None
        label = cells.pop(self._label)
        try:
            return number, label, [float(cell or "nan") for cell in cells]
        except ValueError as error:
            defects.add(
                "value_type", place, f"has an invalid number: {error}", "one number per pixel"
            )
            return None


def _cells(line: bytes) -> list[str] | None:
    try:
        return [cell.strip() for cell in next(csv.reader([line.decode()]))]
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None


def _named_label(cells: Sequence[str]) -> str | None:
    return next((cell for cell in cells if cell.lower() in LABEL_NAMES), None)


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a line is a header: words, or a word for the label and numbers for the pixels.

    In a row at most the label is a word. Pixel numbers strictly increase; pixel values never do.
    """
    numbers = [float(cell) for cell in cells if _is_number(cell)]
    if len(numbers) < len(cells) - 1:
        return True
    is_rising = all(one < other for one, other in pairwise(numbers))
    return is_rising and _named_label(cells) is not None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _chained(first: tuple[int, bytes], others: Iterator[tuple[int, bytes]]) -> Any:
    yield first
    yield from others
