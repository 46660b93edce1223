"""Find a dataset's files by what they contain, whatever they are called and wherever they lie.

For those who put a dataset into its folder by hand: Keras's mnist.npz, torchvision's MNIST/raw, or
files with names of their own.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from digits.datasets.sources.archives import decompress, size_limit
from digits.datasets.sources.npz import read_npz
from digits.errors import DataError
from digits.spec import ROLES, ImageShape, Role

logger = logging.getLogger(__name__)

# A folder with more was not made by unpacking one of these.
MAX_FILES = 200


def find_by_content(
    folder: Path, digests: Mapping[str, str], image_shape: ImageShape
) -> dict[Role, bytes]:
    """Return the IDX files with these SHA-256 that are in `folder`, at any depth.

    They may be plain, .gz, or arrays of an .npz. What cannot be read is skipped with a warning.
    """
    roles = {digests[role]: role for role in ROLES if role in digests}
    found: dict[Role, bytes] = {}
    for path in islice(_files(folder), MAX_FILES):
        try:
            for content in _contents(path, image_shape):
                role = roles.get(hashlib.sha256(content).hexdigest())
                if role is not None:
                    found[role] = content
        except (DataError, OSError) as error:
            logger.warning("%s; ignoring this file", error)
    return found


def _files(folder: Path) -> Iterator[Path]:
    paths = folder.rglob("*") if folder.is_dir() else ()
    for path in sorted(paths):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _contents(path: Path, image_shape: ImageShape) -> Iterable[bytes]:
    """Return the files that a file contains, each bounded by the size of a dataset."""
    limit = size_limit(image_shape)
    if path.stat().st_size > limit:
        return []
    content = path.read_bytes()
    if path.suffix == ".npz":
        return read_npz(content, image_shape, str(path)).values()
    return [decompress(content, limit, str(path)) if path.suffix == ".gz" else content]
