"""Keras's form of MNIST, an .npz of four arrays, as the four IDX files that it was made of."""

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
# What each entry of a zip file's list of contents begins with, and how many there may be: zipfile
# makes an object of every one.
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
    """The four arrays of an .npz as IDX files. Raises DataError.

    The arrays are read without numpy's loader, which allocates whatever a header claims.
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
        raise DataError(f"{name} is not an .npz of {', '.join(KEYS.values())}: {error}") from error


def _read_member(archive: zipfile.ZipFile, key: str, image_shape: ImageShape, role: Role) -> bytes:
    member = archive.getinfo(f"{key}.npy")
    # Only these two are unpacked piece by piece, never beyond the size that was announced.
    if member.compress_type not in METHODS:
        raise ValueError(f"{key} is packed in a way that numpy never uses")
    if member.file_size > size_limit(image_shape, role):
        raise ValueError(f"{key} announces {member.file_size:,} bytes, far above any {role}")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _parse_npy(content: bytes, key: str) -> npt.NDArray[Any]:
    file = io.BytesIO(content)
    shape, dtype = read_header(file, key)
    if dtype != np.uint8:
        raise ValueError(f"{key} holds {dtype}, expected uint8 in C order")
    if len(content) - file.tell() != math.prod(shape):
        raise ValueError(f"{key} does not hold the {math.prod(shape):,} values that it announces")
    return np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape)


def read_header(file: IO[bytes], key: str) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Shape and type of the array in an .npy file, read up to its first value.

    Raises one of MALFORMED where there is none, or its values are in Fortran's order.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{key} is .npy of version {version}, expected (1, 0)")
    shape, is_fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if is_fortran_order:
        raise ValueError(f"{key} holds {dtype} in Fortran order, expected C order")
    if any(size < 0 for size in shape):
        raise ValueError(f"{key} announces a negative size: {shape}")
    return shape, dtype
