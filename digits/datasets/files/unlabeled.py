"""Recognizes the tables of a competition that cannot be trained on: they have no labels."""

import csv
import gzip
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from digits.datasets.defects import refuse
from digits.datasets.files.file_names import split_of

MAX_LINE = 2**17
PIXEL = re.compile(r"(pixel|px|p|x)?[_.]?\d+([x_.]\d+)?")
# The smallest images, 8x8, have 64 pixels.
MIN_PIXELS = 64


def check_labeled(files: Sequence[Path]) -> None:
    """Raise DefectError naming CSV files without labels, and the one to name instead.

    Kaggle's competitions have train.csv, test.csv (pixels only) and sample_submission.csv. A file
    that is named for training is meant: its reader says what it lacks.
    """
    headers = {file: _first_line(file) for file in files}
    widest = max(map(len, headers.values()))
    problems = {
        file: problem
        for file, cells in headers.items()
        if split_of(file.name) != "train" and (problem := _problem(cells, widest)) is not None
    }
    if not problems:
        return
    first, *others = problems
    labeled = [str(file) for file in files if file not in problems]
    found = "; ".join([problems[first], *(f"{file} {problems[file]}" for file in others)])
    way_on = f"name {', '.join(labeled[:3])} alone" if labeled else "add a column of labels"
    refuse("label_missing", str(first), found, f"a label and pixels in each file; {way_on}")


def _problem(cells: Sequence[str], widest: int) -> str | None:
    """Say why a table with this first line has no labeled images."""
    if len(cells) in {2, 3} and not cells[-1].isdecimal():
        columns = f"has only the columns {', '.join(cells)}"
        if widest > MIN_PIXELS:
            return f"{columns}, as a sample submission has: no images"
        return f"{columns}: if it lists pictures, move each into a folder named by its label"
    num = len(cells)
    if num < MIN_PIXELS or math.isqrt(num) ** 2 != num or cells[0].isdecimal():
        return None
    if all(PIXEL.fullmatch(cell.lower()) for cell in cells):
        return f"has {num:,} columns of pixels and no label, as a competition's test images have"
    return None


def _first_line(file: Path) -> list[str]:
    """Return the cells of the first line; none if it cannot be read, which the reader reports."""
    if not file.is_file():
        return []
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            line = stream.readline(MAX_LINE).decode("utf-8-sig").strip()
        separator = max(",;\t", key=line.count)
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except (OSError, EOFError, ValueError, csv.Error, StopIteration, zlib.error):
        return []
