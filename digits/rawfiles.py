"""A dataset's files on this machine, plain or as .gz: found, read, and kept without loss."""

import itertools
import logging
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.archives import FILE_NAMES, decompress
from digits.dataset import Role
from digits.errors import DataError
from digits.files import TEMPORARY, write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawFile:
    """An uncompressed IDX file, and where it lies (there it may be a .gz)."""

    path: Path
    content: bytes


Files = Mapping[Role, RawFile]


def find_raw(
    role: Role, folders: Sequence[Path], limit: int, problems: list[str]
) -> Iterator[RawFile]:
    """Every readable file in the folders that may be `role`; what is wrong goes to `problems`.

    A .gz may unpack to `limit` bytes at most. Raises DataError when a file must not be read.
    """
    for folder in folders:
        for name in (f"{role}.idx", FILE_NAMES[role]):
            for path in (folder / name, folder / f"{name}.gz"):
                try:
                    content = _read(path, limit)
                except FileNotFoundError:
                    continue
                except DataError as error:
                    problems.append(str(error))
                    continue
                except OSError as error:
                    raise DataError(
                        f"{path} cannot be read: {error.strerror}; make it readable or move it away"
                    ) from error
                yield RawFile(path, content)


def _read(path: Path, limit: int) -> bytes:
    from digits.idx import HEADER_BYTES, read_shape

    status = path.stat()
    # A pipe would be waited for, perhaps for ever.
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a plain file")
    if path.suffix == ".gz":
        return decompress(path.read_bytes(), limit, str(path))
    with path.open("rb") as file:
        # A file that is not what its header says is not read any further, however large it is.
        start = file.read(HEADER_BYTES)
        read_shape(start, status.st_size, str(path))
        return start + file.read()


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
    return RawFile(path, content)
