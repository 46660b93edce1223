"""Finds the columns of a table by their names: the label, an index, and the pixels in order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LABEL_NAMES = ("label", "labels", "class", "target", "y")
"""Usual names of a label column."""

INDEX_NAMES = ("", "unnamed: 0", "__index_level_0__", "index", "id")
"""Names of a column that numbers the rows; pandas writes the first three."""

DROP = "only these; drop the others (of one-hot labels, keep the number of the class)"
"""What is expected of columns beside the pixels."""

MIN_PIXELS = 64
"""Number of numbered columns from which they are pixels: those of the smallest image."""

NUMBERED = re.compile(r"(.*?)(?:(\d+)\D(\d+)|(\d+))\D?")


@dataclass(frozen=True)
class Numbered:
    """Columns whose names differ by their numbers only: `places` in the order of the numbers."""

    places: Sequence[int]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Numbered | None":
        """Find them among the names of all columns; None if there are too few."""
        groups: dict[str, list[tuple[int, int, int]]] = {}
        for place, name in enumerate(names):
            if match := NUMBERED.fullmatch(name.strip()):
                prefix, row, column, number = match.groups()
                key = (int(row or 0), int(column or number), place)
                groups.setdefault(prefix, []).append(key)
        largest = max(groups.values(), key=len, default=[])
        if len(largest) < MIN_PIXELS or len({key[:2] for key in largest}) < len(largest):
            return None
        return cls([place for *_, place in sorted(largest)])

    @property
    def are_in_order(self) -> bool:
        """Whether the columns are in the order of their numbers already."""
        return list(self.places) == sorted(self.places)


def named_label(names: Sequence[str]) -> int | None:
    """Return the place of the label: a usual name, or the only one that numbered pixels leave."""
    for place, name in enumerate(names):
        if name.strip().lower() in LABEL_NAMES:
            return place
    pixels = Numbered.of(names)
    if pixels is None:
        return None
    others = set(range(len(names))) - set(pixels.places)
    others -= {place for place in others if is_index(names[place])}
    return others.pop() if len(others) == 1 else None


def is_index(name: str) -> bool:
    """Return whether a name is that of a column that numbers the rows."""
    return name.strip().lower() in INDEX_NAMES
