"""The start of a CSV file: its encoding, separator, header and first rows."""

import csv
import io
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path

from digits.datasets.defects import refuse
from digits.datasets.formats.tables.column_names import named_label
from digits.datasets.sources.archives import MAX_IMAGES
from digits.datasets.sources.raw_files import open_plain
from digits.spec import MAX_SIDE

# Label, index, pixels and what follows a separator at the end of a line.
MAX_COLUMNS = MAX_SIDE * MAX_SIDE + 3
# A number of 64 bits takes 24 characters.
MAX_LINE = MAX_COLUMNS * 26
# Limit of a .gz after decompression.
MAX_BYTES = MAX_IMAGES * MAX_LINE
# Empty and invalid lines are not images, but take time.
MAX_LINES = 2 * MAX_IMAGES
NUM_LOOKED_AT = 2000
MAX_COMMENTS = 50
WHITESPACE = " "
# A comma may be a decimal one, so it comes after the others.
SEPARATORS = (";", "\t", "|", ",")
# What Excel writes before the first row.
EXCEL = b"sep="
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
TO_UTF8 = "UTF-8; convert it, for example with: iconv -f LATIN1 -t UTF-8"

Line = tuple[int, bytes]


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are to be read. `separator` " " is any run of spaces and tabs."""

    encoding: str = "utf-8"
    separator: str = ","
    has_decimal_comma: bool = False
    has_end: bool = False
    """Whether each line ends in a separator."""

    def plain(self, line: bytes) -> bytes:
        """Return a line with exactly one separator between values, and decimal points."""
        line = line.replace(b",", b".") if self.has_decimal_comma else line
        if self.separator == WHITESPACE:
            return b" ".join(line.split())
        return line.rstrip().removesuffix(self.separator.encode()) if self.has_end else line

    def cells(self, line: bytes) -> list[str] | None:
        """Return the values of a line, or None if it is not text."""
        try:
            text = self.plain(line).decode()
            if '"' not in text:
                return [cell.strip() for cell in text.split(self.separator)]
            rows = csv.reader([text], delimiter=self.separator, skipinitialspace=True)
            return [cell.strip() for cell in next(rows)]
        except (UnicodeDecodeError, csv.Error, StopIteration):
            return None


@dataclass(frozen=True, eq=False)
class Start:
    """What the first lines of a file say. `names` is its header, None if it has none.

    `first_line` is the number of the first row; `ends` are the first two and last two values of
    the rows at the start.
    """

    path: Path
    dialect: Dialect
    first_line: int
    num_columns: int
    names: Sequence[str] | None
    ends: Sequence[tuple[str, str, str, str]] = field(repr=False, default=())

    @property
    def place(self) -> str:
        """Where the columns are stated, for messages."""
        return f"{self.path}, line {max(1, self.first_line - (self.names is not None))}"


def examine(path: Path, label: str | None) -> Start:
    """Read the start of a file; `label` is the name that its header must have, if it has one.

    Raises DefectError if there are no rows, or no text.
    """
    encoding = _encoding(path)
    with closing(lines_of(path, encoding)) as lines:
        head = list(islice(lines, 2))
        if not head:
            refuse("empty_file", str(path), "is empty", "one line per image")
        comments: list[Line] = []
        while head and head[0][1].startswith((b"#", EXCEL)) and len(comments) < MAX_COMMENTS:
            comments.append(head.pop(0))
            head += islice(lines, 1)
        if not head or len(comments) == MAX_COMMENTS:
            comments, head = [], comments + head
        dialect = _dialect(encoding, [line for _, line in head])
        header, rows = _divided(dialect, comments, head, label, path)
        start = _Rows(dialect, chain(rows, lines))
        ends = start.ends(NUM_LOOKED_AT)
    names = dialect.cells(header) if header is not None else None
    if start.first is None:
        refuse("empty_file", str(path), "has no rows", "one line per image")
    num_columns = len(names) if names is not None else start.num_columns
    return Start(path, dialect, start.first, num_columns, names, ends)


def lines_of(path: Path, encoding: str) -> Generator[Line]:
    """Yield the number (from 1) and the UTF-8 content of each line that is not empty."""
    with closing(open_plain(path, MAX_BYTES)) as file:
        text = None if encoding == "utf-8" else io.TextIOWrapper(file, encoding, newline="")
        number = 0
        while True:
            try:
                limit = MAX_LINE + 1
                line = text.readline(limit).encode() if text else file.readline(limit)
            except UnicodeError:
                refuse("corrupt_file", f"{path}, line {number + 1}", "is not UTF-16", TO_UTF8)
            if not line:
                return
            number += 1
            if len(line) > MAX_LINE:
                place = f"{path}, line {number}"
                expected = "a line of pixels"
                if line.count(b"\r") > 1:
                    expected += "; convert the line ends, for example with: tr '\\r' '\\n'"
                refuse("unbounded", place, f"has more than {MAX_LINE:,} bytes", expected)
            if number > MAX_LINES:
                expected = "fewer; divide it into several files"
                refuse("unbounded", str(path), f"has over {MAX_LINES:,} lines", expected)
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def is_header(cells: Sequence[str]) -> bool:
    """Whether a line is a header: words, or a word for the label and numbers for the pixels.

    In a row at most the label is a word. Pixel numbers strictly increase; pixel values never do.
    """
    words = [cell for cell in cells if cell and not _is_number(cell)]
    if len(words) > 1:
        return True
    numbers = [float(cell) for cell in cells if _is_number(cell)]
    is_rising = all(one < other for one, other in pairwise(numbers))
    return is_rising and named_label(cells) is not None


class _Rows:
    """The rows at the start of a file, read once."""

    def __init__(self, dialect: Dialect, lines: Iterator[Line]) -> None:
        self._dialect, self._lines = dialect, lines
        self.first: int | None = None
        self.num_columns = 0

    def ends(self, num_rows: int) -> list[tuple[str, str, str, str]]:
        found = []
        for number, line in islice(self._lines, num_rows):
            cells = self._dialect.cells(line) or []
            if self.first is None:
                self.first, self.num_columns = number, len(cells)
            if len(cells) == self.num_columns and len(cells) > 1:
                found.append((cells[0], cells[1], cells[-2], cells[-1]))
        return found


def _encoding(path: Path) -> str:
    with closing(open_plain(path, MAX_BYTES)) as file:
        start = file.read(4)
    if start[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        refuse("corrupt_file", str(path), "is UTF-32 text", TO_UTF8)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    # Without a mark, every other byte of digits and commas is zero.
    zeros = [byte == 0 for byte in start]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else "utf-8"


def _dialect(encoding: str, lines: list[bytes]) -> Dialect:
    """Find the separator that divides two lines into most, and equally many, values."""
    best, most = ",", 1
    for separator in (*SEPARATORS, WHITESPACE):
        rows = [Dialect(separator=separator).cells(line) for line in lines]
        counts = {len(row) for row in rows if row}
        is_tried = separator != WHITESPACE or most == 1
        if is_tried and len(counts) == 1 and (count := counts.pop()) > most:
            best, most = separator, count
    first, *_, last = [Dialect(separator=best).cells(line) or [""] for line in (lines * 2)]
    return Dialect(
        encoding=encoding,
        separator=best,
        has_decimal_comma=best != "," and any(map(DECIMAL_COMMA.fullmatch, last)),
        has_end=best != WHITESPACE and most > 2 and first[-1] == last[-1] == "",
    )


def _divided(
    dialect: Dialect,
    comments: Sequence[Line],
    head: Sequence[Line],
    label: str | None,
    path: Path,
) -> tuple[bytes | None, list[Line]]:
    """Return the header, if there is one, and the rows: "# label,p0" is a header, "#7,0" a row."""
    cells = dialect.cells(head[0][1])
    if cells is None:
        refuse("corrupt_file", f"{path}, line {head[0][0]}", "is not text", TO_UTF8)
    rows = list(head)
    for number, line in reversed(comments):
        bare = line.lstrip(b"# ")
        named = dialect.cells(bare) or []
        if len(named) != len(cells):
            break
        if is_header(named) or label in named:
            return bare, rows
        rows.insert(0, (number, line))
    if len(rows) == len(head) and (label in cells or is_header(cells)):
        return head[0][1], rows[1:]
    return None, rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
