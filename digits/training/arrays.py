"""Arrays in the store, read one part at a time, so that memory use does not grow with the array.

A memory-mapped file would also work, but its touched pages count as the process's memory.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import DamagedError

Array = npt.NDArray[Any]


class StoredArray:
    """An .npy file written by digits.datasets.normalization, with the array's `shape` and `dtype`.

    Reading raises DamagedError if the file was truncated after it was opened.
    """

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self._row_bytes = mapped[:1].nbytes
        self._path, self._start = path, mapped.offset

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.shape[0])

    def rows(self, numbers: Array) -> Array:
        """Return the rows with these numbers, in the order given."""
        found = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        with self._path.open("rb") as file:
            for row, number in zip(found.reshape(len(numbers), -1), numbers.tolist(), strict=True):
                place = self._start + number * self._row_bytes
                if os.preadv(file.fileno(), [row.data], place) != self._row_bytes:
                    raise DamagedError(f"{self._path} was truncated while it was being read")
        return found

    def part(self, start: int, stop: int) -> Array:
        """Return the rows from `start` up to, but not including, `stop` or the end."""
        num_rows = max(min(stop, len(self)) - start, 0)
        num_values = num_rows * (self._row_bytes // self.dtype.itemsize)
        with self._path.open("rb") as file:
            file.seek(self._start + start * self._row_bytes)
            flat = np.fromfile(file, self.dtype, num_values)
        if flat.size != num_values:
            raise DamagedError(f"{self._path} was truncated while it was being read")
        return flat.reshape(num_rows, *self.shape[1:])

    def parts(self, size: int) -> Iterator[Array]:
        """Yield all rows, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)
