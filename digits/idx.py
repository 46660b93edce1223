"""The IDX format of the MNIST files: a magic number, the sizes of each dimension, the bytes."""

import math
import struct
from typing import TYPE_CHECKING, Any

from digits.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

UNSIGNED_BYTE = 0x08
# Labels have one, images three, images in colour four.
MAX_DIMENSIONS = 4
HEADER_BYTES = 4 + 4 * MAX_DIMENSIONS


def parse_idx(content: bytes, name: str) -> "npt.NDArray[np.uint8]":
    """The array in an IDX file: uint8, of the shape that its header gives, a view of `content`.

    `name` is what the file is called in messages. Raises DataError as read_shape does.
    """
    import numpy as np

    shape = read_shape(content, len(content), name)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def read_shape(start: bytes, num_bytes: int, name: str) -> tuple[int, ...]:
    """The shape in the header of an IDX file of `num_bytes` bytes that begins with `start`.

    The first HEADER_BYTES are enough. The format is described at
    http://yann.lecun.com/exdb/mnist/. Raises DataError when the header is not one, the type is not
    unsigned byte, or the length is not exactly what the header announces.
    """
    if len(start) < 4 or start[:2] != b"\0\0":
        raise DataError(
            f"{name} is not an IDX file: it begins with {start[:4].hex() or 'nothing'}, "
            "expected two zero bytes, the type and the number of dimensions"
        )
    kind, num_dimensions = start[2], start[3]
    if kind != UNSIGNED_BYTE:
        raise DataError(f"{name} holds values of type 0x{kind:02x}, expected unsigned bytes, 0x08")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise DataError(
            f"{name} has {num_dimensions} dimensions, expected 1 for labels, 3 for images"
        )
    header = 4 + 4 * num_dimensions
    if len(start) < header:
        raise DataError(
            f"{name} was cut short: {num_bytes} bytes, expected {header} of header alone"
        )
    shape = struct.unpack_from(f">{num_dimensions}I", start, 4)
    if 0 in shape:
        raise DataError(f"{name} holds no values: {_described(shape)}")
    expected = header + math.prod(shape)
    if num_bytes != expected:
        problem = "was cut short" if num_bytes < expected else "has bytes after its end"
        raise DataError(
            f"{name} {problem}: {num_bytes:,} bytes, expected {expected:,} for "
            f"{_described(shape)} values"
        )
    return shape


def format_idx(array: "npt.NDArray[Any]") -> bytes:
    """An array of whole numbers in 0..255 as an IDX file of unsigned bytes."""
    import numpy as np

    header = bytes((0, 0, UNSIGNED_BYTE, array.ndim))
    return header + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def _described(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
