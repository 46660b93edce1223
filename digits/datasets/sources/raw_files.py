"""A dataset's local IDX files, plain or as .gz: found, read, and written without overwriting."""

import hashlib
import io
import itertools
import logging
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from digits.datasets.defects import refuse
from digits.datasets.files.file_layouts import said_splits
from digits.datasets.files.file_names import parse_name
from digits.datasets.files.ignored import is_ignored
from digits.datasets.sources.archives import (
    FILE_NAMES,
    GZIP_START,
    MAX_RATIO,
    PIECE,
    SMALL_BYTES,
    Unpacked,
    size_limit,
)
from digits.datasets.sources.idx import (
    HEADER_BYTES,
    NUM_LABEL_COLUMNS,
    has_integers,
    read_shape,
    read_start,
)
from digits.datasets.sources.signatures import NUM_BYTES, as_text, recognize
from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.spec import ImageShape, Role
from digits.storage.files import TEMPORARY, Signature, signature_of, write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawFile:
    """An IDX file: its path (possibly of a .gz) and the facts of its uncompressed content."""

    path: Path
    sha256: str
    num_bytes: int
    start: bytes
    """The first bytes, as many as the longest header has."""
    signature: Signature = ()

    @classmethod
    def of(cls, name: str, content: bytes) -> Self:
        """Describe content that is not on disk yet."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(Path(name), digest, len(content), content[:HEADER_BYTES])


Files = Mapping[str, RawFile]
"""The IDX files by role; validation data has the roles validation-images and -labels."""


def role_of(name: str) -> str | None:
    """Return the role of a file by its name, in our naming, MNIST's or other common ones.

    A name without a split counts as train; hidden files have no role.
    """
    if is_ignored(name) or not LAYOUTS["idx"].matches(name):
        return None
    named = parse_name(name)
    return named.kind and f"{named.split or 'train'}-{named.kind}"


def roles_of(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files of each role; a folder above a file may state its split."""
    found: dict[str, list[Path]] = {}
    for file, split in said_splits(files).items():
        found.setdefault(f"{split or 'train'}-{parse_name(file.name).kind}", []).append(file)
    return found


def find_raw(
    role: Role, folders: Sequence[Path], limit: int, problems: list[str]
) -> Iterator[RawFile]:
    """Yield every readable file in the folders that may be `role`; add others to `problems`.

    A .gz may decompress to at most `limit` bytes. Raises DataError if a file must not be read.
    """
    for folder in folders:
        yield from readable(_candidates(role, folder), limit, problems)


def readable(paths: Iterable[Path], limit: int, problems: list[str]) -> Iterator[RawFile]:
    """Yield the readable ones of these files; add the problems of others to `problems`.

    Raises DataError if a file must not be read.
    """
    for path in paths:
        try:
            file = _measure(path, limit)
        except FileNotFoundError:
            continue
        except DataError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}; make it readable or move it away"
            ) from error
        yield file


def _candidates(role: Role, folder: Path) -> Iterator[Path]:
    """Yield the usual names, then other files whose names match `role`."""
    if folder.is_file():
        folder = folder.parent
    usual = [folder / name for name in (f"{role}.idx", FILE_NAMES[role])]
    usual = [path for name in usual for path in (name, name.with_name(f"{name.name}.gz"))]
    yield from usual
    if folder.is_dir():
        others = (path for path in sorted(folder.iterdir()) if role_of(path.name) == role)
        yield from (path for path in others if path not in usual)


def _measure(path: Path, limit: int) -> RawFile:
    signature = signature_of(path)
    check_kind(path, "idx", "an IDX file")
    with open_plain(path, limit) as file:
        start = read_start(file)
        if not is_packed(path):
            # A file that does not match its header is not read any further, as it may be huge.
            is_labels = has_integers(path.name)
            read_shape(start, path.stat().st_size, str(path), has_integers=is_labels)
        digest, num_bytes = hashlib.sha256(start), len(start)
        while piece := file.read(PIECE):
            digest.update(piece)
            num_bytes += len(piece)
    return RawFile(path, digest.hexdigest(), num_bytes, start, signature)


def limit_of(path: Path, image_shape: ImageShape) -> int:
    """Limit in bytes for the uncompressed content of a file, whose name states its role."""
    is_images = parse_name(path.name).kind == "images"
    limit = size_limit(image_shape, "train-images" if is_images else "train-labels")
    return limit * 4 * NUM_LABEL_COLUMNS if has_integers(path.name) else limit


def open_plain(path: Path, limit: int) -> io.BufferedReader:
    """Open an uncompressed file, or the content of a gzip file, limited to `limit` bytes.

    The first bytes decide, not the name. Raises OSError, and DataError if it is not a regular file.
    Reading corrupted gzip raises DataError.
    """
    # Reading a pipe could block forever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path} is not a regular file")
    file = path.open("rb")
    limit = min(limit, max(SMALL_BYTES, MAX_RATIO * path.stat().st_size))
    # Twice, because a web server may compress a .gz once more.
    for _ in range(2):
        if not file.peek(len(GZIP_START)).startswith(GZIP_START):
            break
        file = io.BufferedReader(Unpacked(file, limit, str(path)), PIECE)
    return file


def is_packed(path: Path) -> bool:
    """Return whether the content of a regular file is compressed with gzip."""
    with path.open("rb") as file:
        return file.read(len(GZIP_START)) == GZIP_START


def check_kind(path: Path, wanted: str | None, expected: str, *, unpack: bool = True) -> None:
    """Raise DefectError, naming what a regular file is, if its first bytes are of another kind.

    `wanted` is the name of the right kind, or None if it has no signature. With `unpack`, the
    content of gzip counts.
    """
    with open_plain(path, NUM_BYTES * 2**20) if unpack else path.open("rb") as file:
        start = file.read(NUM_BYTES)
    kind = recognize(start) or (as_text(start) if wanted is not None else None)
    if kind is not None and kind.name != wanted:
        refuse("file_type", str(path), f"is {kind.about}", f"{expected}; {kind.advice}")


def sweep(folder: Path) -> None:
    """Remove the leftovers of a run that was killed during a write.

    No one else may be writing to the folder.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        leftover.unlink()


def keep(path: Path, content: bytes) -> RawFile:
    """Write a file atomically. An existing file is renamed, never overwritten."""
    if path.exists() or path.is_symlink():
        names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        logger.warning("%s was invalid; renamed it to %s", path, aside.name)
    write_whole(path, content)
    return replace(RawFile.of(str(path), content), signature=signature_of(path))
