"""Chunks: rows of images and labels on their way from files to a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from digits.thresholds import Split

# Small enough that a chunk of the largest images takes little memory, whatever the type.
MAX_ROWS, MAX_BYTES = 8192, 2**24


def rows_at_once(bytes_of_a_row: int) -> int:
    """Number of rows to read at once."""
    return max(1, min(MAX_ROWS, MAX_BYTES // max(1, bytes_of_a_row)))


@dataclass(frozen=True)
class RawChunk:
    """Rows as stored in a file: values (n, H, W) or (n, H * W) and labels (n,) of any type.

    Labels are numbers, or text if the file contains text; `names` locate each row. `are_pictures`:
    the values are uint8 or uint16 by the depth of the picture files, not by their range.
    """

    values: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    split: Split | None
    names: Sequence[str]
    are_pictures: bool = False


@dataclass(frozen=True)
class LabeledChunk:
    """Checked rows: images uint8 (n, H, W) and labels uint16 (n,).

    `split` is None if the files do not say; `names` locate each row.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint16]
    split: Split | None
    names: Sequence[str]


class RowNames(Sequence[str]):
    """The names of a file's rows, created on access."""

    def __init__(self, file: str, numbers: Sequence[int], word: str = "row") -> None:
        self._file, self._numbers, self._word = file, numbers, word

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "RowNames": ...

    def __getitem__(self, index: int | slice) -> "str | RowNames":
        if isinstance(index, slice):
            return RowNames(self._file, self._numbers[index], self._word)
        return f"{self._file}, {self._word} {self._numbers[index]}"
