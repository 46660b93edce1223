"""Decides, once for all CSV files of a dataset or batch, which columns are label and pixels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from digits.datasets.defects import Defects, refuse
from digits.datasets.formats.label_text import as_number, as_text
from digits.datasets.formats.tables.column_names import DROP, Numbered, is_index, named_label
from digits.datasets.formats.tables.csv_dialects import MAX_COLUMNS, Start, examine
from digits.spec import Column, ImageShape

# Fewer rows may count up by chance.
MIN_INDEX_ROWS = 3


@dataclass(frozen=True)
class Table:
    """A file with the places of its label and of its pixels, in their order."""

    start: Start
    label: int
    pixels: Sequence[int]


def decide(
    files: Sequence[Path],
    image_shape: ImageShape | None,
    given: Column | None,
    defects: Defects,
) -> list[Table]:
    """Return a table for each file, in order. `given` is the label column that the user named.

    A header of one file counts for parts that have none. Raises DefectError naming both files if
    two contradict each other.
    """
    name = given if isinstance(given, str) else None
    starts = [examine(path, name) for path in files]
    num_pixels = math.prod(image_shape) if image_shape else None
    has_index = _has_index(starts, num_pixels, given)
    for start in starts:
        _check_names(
            start, _numbered(start, given) if isinstance(given, int) else _named(start, given)
        )
        _check_number(start, num_pixels, has_index=has_index)
    _check_widths(starts)
    if has_index:
        defects.note(f"{files[0]}: the first column numbers the rows; it is not read")
    labels = _labels(starts, given, has_index=has_index)
    tables = []
    for start in starts:
        label = labels[start.path]
        pixels = _pixels(start, label, has_index=has_index, defects=defects)
        tables.append(Table(start, label, pixels))
    _check_same(tables)
    return tables


def label_place(files: Sequence[Path]) -> Column | None:
    """Return the place of the label, -1 for the last; None if a header names it.

    Raises DefectError if it is neither named nor recognized by its values.
    """
    starts = [examine(path, None) for path in files]
    for start in starts:
        _check_names(start, named_label(start.names or ()))
    if any(start.names is not None and named_label(start.names) is not None for start in starts):
        return None
    has_index = _has_index(starts, None, None)
    guesses = [guess for start in starts if (guess := _guess(start, has_index)) is not None]
    if not guesses:
        refuse(
            "label_missing",
            starts[0].place,
            "has no labels in the first or the last column",
            "0, 1, 2 and so on, or text; set their column with --label-column NAME or NUMBER",
        )
    _labels(starts, None, has_index=has_index)
    return -1 if guesses[0] == starts[0].num_columns - 1 else guesses[0]


def _check_names(start: Start, label: int | None) -> None:
    """Refuse columns beside numbered pixels, rather than take them for pixels."""
    names = start.names or ()
    pixels = Numbered.of(names)
    if pixels is None or (label is None and len(names) - len(pixels.places) < 2):
        return
    known = {*pixels.places, label, 0 if is_index(names[0]) else None}
    others = [name for place, name in enumerate(names) if place not in known]
    if others:
        found = f"has columns that are neither pixels nor labels: {', '.join(others[:8])}"
        refuse("value_type", start.place, found, DROP)


def _check_widths(starts: Sequence[Start]) -> None:
    first = starts[0]
    for other in starts[1:]:
        if other.num_columns != first.num_columns:
            found = f"has {other.num_columns:,} columns, but {first.path} has {first.num_columns:,}"
            refuse("image_size", other.place, found, "as many in each file")


def _has_index(starts: Sequence[Start], num_pixels: int | None, given: Column | None) -> bool:
    """Whether the first column only numbers the rows."""
    first = starts[0]
    if given in (0, -first.num_columns) or first.num_columns < 3:
        return False
    names = [start.names for start in starts if start.names is not None]
    if names:
        return is_index(names[0][0]) and given != names[0][0]
    rest = first.num_columns - 2
    fits = rest == num_pixels if num_pixels else math.isqrt(rest) ** 2 == rest
    numbers = [as_number(row[0]) for row in first.ends]
    return (
        fits
        and len(numbers) >= MIN_INDEX_ROWS
        and all(one is not None and other == one + 1 for one, other in pairwise(numbers))
    )


def _labels(
    starts: Sequence[Start], given: Column | None, *, has_index: bool
) -> Mapping[Path, int]:
    if isinstance(given, int):
        return {start.path: _numbered(start, given) for start in starts}
    named = {start: place for start in starts if (place := _named(start, given)) is not None}
    unnamed = [start for start in starts if start not in named]
    if isinstance(given, str) and not named:
        expected = f"a header with a label column named {given}"
        refuse("label_missing", starts[0].place, "has no header", expected)
    labels = {start.path: place for start, place in named.items()}
    if unnamed:
        labels |= _unnamed(unnamed, named, has_index=has_index)
    return labels


def _numbered(start: Start, given: int) -> int:
    place = given % start.num_columns
    named = named_label(start.names) if start.names is not None else None
    pixels = Numbered.of(start.names or ())
    if named is not None and named != place and pixels and place in pixels.places:
        names = start.names or ()
        found = f"names column {named} {names[named]}, and column {place} {names[place]}"
        refuse("label_missing", start.place, found, f"the label in column {given}")
    return place


def _named(start: Start, given: Column | None) -> int | None:
    """The place of the label by the file's header."""
    if start.names is None:
        return None
    if given is None:
        return named_label(start.names)
    if given not in start.names:
        found = f"has the columns {', '.join(start.names[:6])} ..."
        refuse("label_missing", start.place, found, f"a label column named {given}")
    return start.names.index(str(given))


def _unnamed(
    starts: Sequence[Start], named: Mapping[Start, int], *, has_index: bool
) -> Mapping[Path, int]:
    """The place of the label in files that do not name it: one for all, without contradiction."""
    known = [(start, place, "names") for start, place in named.items()]
    guessed = [
        (start, guess) for start in starts if (guess := _guess(start, has_index)) is not None
    ]
    known += [(start, place, "seems to have") for start, place in guessed]
    if not known:
        return {start.path: _likely(start, has_index) for start in starts}
    first, place, says = known[0]
    for other, other_place, other_says in known[1:]:
        if other_place != place:
            refuse(
                "label_missing",
                str(other.path),
                f"{other_says} its labels in column {other_place}, but {first.path} {says} them "
                f"in column {place}",
                "the same column in all files: give each file the same header line",
            )
    return {start.path: place for start in starts}


def _guess(start: Start, has_index: bool) -> int | None:
    """The first or last column, whichever has classes."""
    for place, column in _candidates(start, has_index):
        if _are_classes(column):
            return place
    return None


def _likely(start: Start, has_index: bool) -> int:
    """The first column, unless all its values are equal and those of the last differ."""
    (first, one), (last, other) = _candidates(start, has_index)
    return last if len(set(one)) < 2 <= len(set(other)) else first


def _candidates(start: Start, has_index: bool) -> list[tuple[int, list[str]]]:
    return [
        (int(has_index), [row[int(has_index)] for row in start.ends]),
        (start.num_columns - 1, [row[-1] for row in start.ends]),
    ]


def _are_classes(column: Sequence[str]) -> bool:
    """Whether values are 0, 1, 2 and so on, or words."""
    texts = {as_text(cell) for cell in column}
    if len(texts) < 2 or "" in texts:
        return False
    numbers = {as_number(text) for text in texts}
    if None not in numbers:
        return numbers == set(range(len(numbers)))
    return not any(map(_is_fraction, texts))


def _is_fraction(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return as_number(text) is None


def _pixels(start: Start, label: int, *, has_index: bool, defects: Defects) -> list[int]:
    places = [place for place in range(int(has_index), start.num_columns) if place != label]
    numbered = Numbered.of(start.names) if start.names is not None else None
    if numbered and set(numbered.places) == set(places) and not numbered.are_in_order:
        defects.note(f"{start.path}: the pixels were put into the order of their numbers")
        return list(numbered.places)
    return places


def _check_number(start: Start, num_pixels: int | None, *, has_index: bool) -> None:
    found = f"has {start.num_columns:,} columns"
    others = 1 + has_index
    if start.num_columns == num_pixels:
        refuse("label_missing", start.place, found, "one more, for the label")
    if not others < start.num_columns <= MAX_COLUMNS or (
        num_pixels is not None and start.num_columns != num_pixels + others
    ):
        expected = f"{num_pixels + others:,}" if num_pixels else f"2 to {MAX_COLUMNS:,}"
        refuse("image_size", start.place, found, f"{expected}: label, pixels")


def _check_same(tables: Sequence[Table]) -> None:
    """Headers must name the same pixels in the same order."""
    named = [table for table in tables if table.start.names is not None]
    for other in named[1:]:
        names, first = _pixel_names(other), named[0]
        if names != _pixel_names(first):
            refuse(
                "image_size",
                other.start.place,
                f"names other columns than {first.start.path}",
                "the same pixels in the same order in each file",
            )


def _pixel_names(table: Table) -> list[str]:
    names = table.start.names or ()
    return [names[place] for place in table.pixels]
