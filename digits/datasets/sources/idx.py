"""The IDX format of the MNIST files: a magic number, the size of each dimension, the bytes."""

import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from digits.datasets.defects import DefectError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

UNSIGNED_BYTE, INTEGER = 0x08, 0x0C
ITEM_BYTES = {UNSIGNED_BYTE: 1, INTEGER: 4}
OTHER_TYPES = {
    0x09: "signed bytes",
    0x0B: "int16",
    INTEGER: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
# QMNIST's labels: integers in eight columns, of which the first is the class.
NUM_LABEL_COLUMNS = 8
# Labels have one, images three, color images four.
MAX_DIMENSIONS = 4
HEADER_BYTES = 4 + 4 * MAX_DIMENSIONS


def has_integers(name: str) -> bool:
    """Whether the name of a file announces QMNIST's labels, qmnist-train-labels-idx2-int."""
    return "idx2" in name.lower()


def parse_idx(content: bytes, name: str) -> "npt.NDArray[np.uint8]":
    """Return the array of an IDX file: uint8, in the shape of its header, a view of `content`.

    `name` is the file's name in messages. Raises DefectError like read_shape.
    """
    import numpy as np

    shape = read_shape(content, len(content), name)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def read_start(file: BinaryIO) -> bytes:
    """Read the header of an IDX file, as far as it exists, leaving the file at its first value."""
    start = file.read(4)
    return start + file.read(4 * min(start[3], MAX_DIMENSIONS)) if len(start) == 4 else start


def read_shape(
    start: bytes, num_bytes: int | None, name: str, *, has_integers: bool = False
) -> tuple[int, ...]:
    """Return the shape in the header of an IDX file of `num_bytes` bytes that starts with `start`.

    The first HEADER_BYTES are enough; the length is not checked if `num_bytes` is None. The format
    is described at http://yann.lecun.com/exdb/mnist/. Raises DefectError if the header is invalid,
    the type is not unsigned byte (or, with `has_integers`, integers of 32 bits), or the length does
    not match the header.
    """
    header = _check_start(start, name, has_integers=has_integers)
    if len(start) < header:
        raise DefectError(
            "corrupt_file",
            f"{name} is truncated: {len(start)} bytes, expected {header} for the header alone",
        )
    shape = struct.unpack_from(f">{start[3]}I", start, 4)
    if 0 in shape:
        raise DefectError("empty_file", f"{name} has no values: {describe_shape(shape)}")
    expected = header + math.prod(shape) * ITEM_BYTES[start[2]]
    if num_bytes is not None and num_bytes != expected:
        problem = "is truncated" if num_bytes < expected else "has extra bytes at the end"
        raise DefectError(
            "corrupt_file",
            f"{name} {problem}: {num_bytes:,} bytes, expected {expected:,} for "
            f"{describe_shape(shape)} values",
        )
    return shape


def _check_start(start: bytes, name: str, *, has_integers: bool) -> int:
    """Check the magic number; return the size of the header in bytes."""
    if not start:
        raise DefectError("empty_file", f"{name} is empty, expected an IDX file")
    if len(start) < 4 or start[:2] != b"\0\0":
        if start[1:4] == bytes((UNSIGNED_BYTE, 0, 0)):
            raise DefectError(
                "byte_order",
                f"{name} has the wrong byte order: it starts with {start[:4].hex()}, "
                f"expected {start[3::-1].hex()}",
            )
        raise DefectError(
            "corrupt_file",
            f"{name} is not an IDX file: it starts with {start[:4].hex()}, "
            "expected two zero bytes, the type and the number of dimensions",
        )
    kind, num_dimensions = start[2], start[3]
    if kind != UNSIGNED_BYTE and not (has_integers and kind == INTEGER):
        named = f" ({OTHER_TYPES[kind]})" if kind in OTHER_TYPES else ""
        advice = "; save the array in an .npz, as x_train or y_train" if named else ""
        if kind == INTEGER and num_dimensions == 2:
            advice = (
                "; these look like QMNIST's labels, whose first column is the digit: "
                "y = np.frombuffer(open(PATH, 'rb').read(), '>i4', offset=12).reshape(-1, 8)[:, 0]"
                ", then save y in an .npz, as y_train"
            )
        raise DefectError(
            "value_type",
            f"{name} has values of type 0x{kind:02x}{named}, expected 0x08 (unsigned bytes)"
            f"{advice}",
        )
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise DefectError(
            "corrupt_file",
            f"{name} has {num_dimensions} dimensions, expected 1 (labels) or 3 (images)",
        )
    return 4 + 4 * num_dimensions


def format_idx(array: "npt.NDArray[Any]") -> bytes:
    """Encode an array of integers in 0..255 as an IDX file of unsigned bytes."""
    import numpy as np

    header = bytes((0, 0, UNSIGNED_BYTE, array.ndim))
    return header + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def describe_shape(shape: tuple[int, ...]) -> str:
    """Write a shape as "60,000 x 28 x 28"."""
    return " x ".join(f"{size:,}" for size in shape)
