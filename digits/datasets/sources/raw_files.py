"""A dataset's files on this machine, plain or as .gz: found, read, and kept without loss."""

import hashlib
import io
import itertools
import logging
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

from digits.datasets.sources.archives import FILE_NAMES, PIECE, Unpacked
from digits.datasets.sources.idx import HEADER_BYTES, read_shape, read_start
from digits.errors import DataError
from digits.spec import Role
from digits.storage.files import TEMPORARY, write_whole
from digits.storage.signatures import Signature, signature_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawFile:
    """An IDX file: where it lies (there it may be a .gz), and what its plain content is."""

    path: Path
    sha256: str
    num_bytes: int
    start: bytes
    """As many bytes as the longest header has."""
    signature: Signature = ()

    @classmethod
    def of(cls, name: str, content: bytes) -> Self:
        """Content that does not lie there yet."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(Path(name), digest, len(content), content[:HEADER_BYTES])


Files = Mapping[Role, RawFile]


def role_of(name: str) -> Role | None:
    """The role of a file by its name: as we, as the authors of MNIST and as others name them.

    A file of a split that its name does not say is one of train; hidden files have no role.
    """
    stem = name.lower().removesuffix(".gz")
    if stem.startswith(".") or not stem.endswith((".idx", "-ubyte", ".ubyte")):
        return None
    split = "test" if "test" in stem or "t10k" in stem else "train"
    for kind, marks in {"images": ("image", "idx3"), "labels": ("label", "idx1")}.items():
        if any(mark in stem for mark in marks):
            return cast(Role, f"{split}-{kind}")
    return None


def find_raw(
    role: Role, folders: Sequence[Path], limit: int, problems: list[str]
) -> Iterator[RawFile]:
    """Every readable file in the folders that may be `role`; what is wrong goes to `problems`.

    A .gz may unpack to `limit` bytes at most. Raises DataError when a file must not be read.
    """
    for folder in folders:
        for path in _candidates(role, folder):
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
    """The usual names, and after them whatever may be `role` by its name."""
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
    with open_plain(path, limit) as file:
        start = read_start(file)
        if path.suffix != ".gz":
            # A file that is not what its header says is not read any further, however large it is.
            read_shape(start, path.stat().st_size, str(path))
        digest, num_bytes = hashlib.sha256(start), len(start)
        while piece := file.read(PIECE):
            digest.update(piece)
            num_bytes += len(piece)
    return RawFile(path, digest.hexdigest(), num_bytes, start, signature)


def open_plain(path: Path, limit: int) -> io.BufferedReader:
    """A plain file, or the content of a .gz, which may be `limit` bytes at most.

    Raises OSError, and DataError for what is no file; a damaged .gz raises it while it is read.
    """
    # A pipe would be waited for, perhaps for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path} is not a plain file")
    file = path.open("rb")
    if path.suffix != ".gz":
        return file
    return io.BufferedReader(Unpacked(file, limit, str(path)), PIECE)


def sweep(folder: Path) -> None:
    """Remove what a run that was killed in the middle of a write left in a folder.

    Nobody else may be writing there.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        leftover.unlink()


def keep(path: Path, content: bytes) -> RawFile:
    """Write a file, whole or not at all. What lies there is set aside, never written over."""
    if path.exists() or path.is_symlink():
        names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        logger.warning("%s was not right; it is kept as %s", path, aside.name)
    write_whole(path, content)
    return replace(RawFile.of(str(path), content), signature=signature_of(path))
