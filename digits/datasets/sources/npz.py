"""Convert Keras's form of MNIST, an .npz of four arrays, back to the four original IDX files."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from digits.datasets.sources.archives import size_limit
from digits.datasets.sources.idx import format_idx
from digits.errors import DataError
from digits.spec import ImageShape, Role

KEYS: Mapping[Role, str] = {
    "train-images": "x_train",
    "train-labels": "y_train",
    "test-images": "x_test",
    "test-labels": "y_test",
}
# The signature of each entry in a zip file's central directory, and the limit on their number:
# zipfile creates an object for each.
ENTRY, MAX_ENTRIES = b"PK\x01\x02", 100
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# What zipfile and numpy's header parser raise on malformed bytes.
MALFORMED = (
    OSError,
    EOFError,
    KeyError,
    OverflowError,
    ValueError,
    TypeError,
    SyntaxError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(content: bytes, image_shape: ImageShape, name: str) -> dict[Role, bytes]:
    """Return the four arrays of an .npz as IDX files. Raises DataError.

    numpy's loader is avoided because it allocates whatever a header claims.
    """
    if content.count(ENTRY) > MAX_ENTRIES:
        raise DataError(f"{name} lists more than {MAX_ENTRIES} files, expected {len(KEYS)}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {
                role: format_idx(_parse_npy(_read_member(archive, key, image_shape, role), key))
                for role, key in KEYS.items()
            }
    except MALFORMED as error:
        raise DataError(
            f"{name} is not a valid .npz with {', '.join(KEYS.values())}: {error}"
        ) from error


def _read_member(archive: zipfile.ZipFile, key: str, image_shape: ImageShape, role: Role) -> bytes:
    member = archive.getinfo(f"{key}.npy")
    # Only these two are decompressed in pieces, never beyond the declared size.
    if member.compress_type not in METHODS:
        raise ValueError(f"{key} uses a compression method that numpy never writes")
    if member.file_size > size_limit(image_shape, role):
        raise ValueError(f"{key} declares {member.file_size:,} bytes, too many for {role}")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _parse_npy(content: bytes, key: str) -> npt.NDArray[Any]:
    file = io.BytesIO(content)
    shape, dtype = read_header(file, key)
    if dtype != np.uint8:
        raise ValueError(f"{key} has type {dtype}, expected uint8 in C order")
    if len(content) - file.tell() != math.prod(shape):
        raise ValueError(f"{key} does not have the {math.prod(shape):,} values of its header")
    return np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape)


def read_header(file: IO[bytes], key: str) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Read shape and type of the array in an .npy file, leaving it at its first value.

    Raises one of MALFORMED if the header is invalid or the values are in Fortran order.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{key} has .npy version {version}, expected (1, 0)")
    shape, is_fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if is_fortran_order:
        raise ValueError(
            f"{key} has type {dtype} in Fortran order, expected C order; save it with "
            "np.ascontiguousarray"
        )
    if any(size < 0 for size in shape):
        raise ValueError(f"{key} declares a negative size: {shape}")
    return shape, dtype
