"""The IDX format of the MNIST files: a magic number, the sizes of each dimension, the bytes."""

import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from digits.datasets.defects import DefectError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

UNSIGNED_BYTE = 0x08
# Labels have one, images three, images in colour four.
MAX_DIMENSIONS = 4
HEADER_BYTES = 4 + 4 * MAX_DIMENSIONS


def parse_idx(content: bytes, name: str) -> "npt.NDArray[np.uint8]":
    """The array in an IDX file: uint8, of the shape that its header gives, a view of `content`.

    `name` is what the file is called in messages. Raises DefectError as read_shape does.
    """
    import numpy as np

    shape = read_shape(content, len(content), name)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def read_start(file: BinaryIO) -> bytes:
    """The header of an IDX file, as far as it goes; the file then stands at its first value."""
    start = file.read(4)
    return start + file.read(4 * min(start[3], MAX_DIMENSIONS)) if len(start) == 4 else start


def read_shape(start: bytes, num_bytes: int | None, name: str) -> tuple[int, ...]:
    """The shape in the header of an IDX file of `num_bytes` bytes that begins with `start`.

    The first HEADER_BYTES are enough; the length is not looked at where `num_bytes` is None. The
    format is described at http://yann.lecun.com/exdb/mnist/. Raises DefectError when the header is
    not one, the type is not unsigned byte, or the length is not what the header announces.
    """
    header = _check_start(start, name)
    if len(start) < header:
        raise DefectError(
            "corrupt_file",
            f"{name} was cut short: {len(start)} bytes, expected {header} of header alone",
        )
    shape = struct.unpack_from(f">{start[3]}I", start, 4)
    if 0 in shape:
        raise DefectError("empty_file", f"{name} holds no values: {_described(shape)}")
    expected = header + math.prod(shape)
    if num_bytes is not None and num_bytes != expected:
        problem = "was cut short" if num_bytes < expected else "has bytes after its end"
        raise DefectError(
            "corrupt_file",
            f"{name} {problem}: {num_bytes:,} bytes, expected {expected:,} for "
            f"{_described(shape)} values",
        )
    return shape


def _check_start(start: bytes, name: str) -> int:
    """Check the magic number; how many bytes the header has."""
    if not start:
        raise DefectError("empty_file", f"{name} is empty, expected an IDX file")
    if len(start) < 4 or start[:2] != b"\0\0":
        if start[1:4] == bytes((UNSIGNED_BYTE, 0, 0)):
            raise DefectError(
                "byte_order",
                f"{name} has its bytes in the wrong order: it begins with {start[:4].hex()}, "
                f"expected {start[3::-1].hex()}",
            )
        raise DefectError(
            "corrupt_file",
            f"{name} is not an IDX file: it begins with {start[:4].hex()}, "
            "expected two zero bytes, the type and the number of dimensions",
        )
    kind, num_dimensions = start[2], start[3]
    if kind != UNSIGNED_BYTE:
        raise DefectError(
            "value_type", f"{name} holds values of type 0x{kind:02x}, expected unsigned bytes, 0x08"
        )
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise DefectError(
            "corrupt_file",
            f"{name} has {num_dimensions} dimensions, expected 1 for labels, 3 for images",
        )
    return 4 + 4 * num_dimensions


def format_idx(array: "npt.NDArray[Any]") -> bytes:
    """An array of whole numbers in 0..255 as an IDX file of unsigned bytes."""
    import numpy as np

    header = bytes((0, 0, UNSIGNED_BYTE, array.ndim))
    return header + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def _described(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
