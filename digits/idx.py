"""The IDX format of the MNIST files: a magic number, the sizes of each dimension, the bytes."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.errors import DataError

UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """The array in an IDX file: uint8, of the shape that its header gives.

    `name` is what the file is called in messages. Raises DataError when the header is not one, the
    type is not unsigned byte, or the length is not exactly what the header announces.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(
            f"{name} is not an IDX file: it begins with {content[:4].hex() or 'nothing'}, "
            "expected two zero bytes, the type and the number of dimensions"
        )
    kind, num_dimensions = content[2], content[3]
    if kind != UNSIGNED_BYTE:
        raise DataError(f"{name} holds values of type 0x{kind:02x}, expected unsigned bytes, 0x08")
    header = 4 + 4 * num_dimensions
    if num_dimensions == 0 or len(content) < header:
        raise DataError(f"{name} ends within its header of {num_dimensions} dimensions")
    shape = tuple(np.frombuffer(content, ">u4", num_dimensions, offset=4).tolist())
    expected = header + math.prod(shape)
    if len(content) != expected:
        problem = "was cut short" if len(content) < expected else "has bytes after its end"
        raise DataError(
            f"{name} {problem}: {len(content):,} bytes, expected {expected:,} for "
            f"{' x '.join(map(str, shape))} values"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def format_idx(array: npt.NDArray[Any]) -> bytes:
    """An array of unsigned bytes as an IDX file."""
    header = bytes((0, 0, UNSIGNED_BYTE, array.ndim))
    return header + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
