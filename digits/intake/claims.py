"""Claims: an incoming batch is moved into a hidden folder before a byte of it is read.

Whoever writes to the incoming folder can replace a file at any moment. What was claimed cannot be
replaced by name, so what is read is what is added or quarantined, and a new file of the same name
is another batch. The claim of a process that died is put back and is a batch again.
"""

import contextlib
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.intake.contents import others_of
from digits.storage.files import discard, flush

CLAIMED, FINISHED, INTERRUPTED = ".claimed-", ".finished-", ".interrupted-"
# A process can be killed for the memory that a batch takes; the next would be as well.
MAX_INTERRUPTIONS = 3
OURS = re.compile(rf"({re.escape(CLAIMED)}|{re.escape(FINISHED)})[0-9a-f]{{32}}")


@dataclass(frozen=True)
class Claim:
    """A hidden folder on the same file system, and the paths of the batch inside it."""

    folder: Path
    paths: tuple[Path, ...]

    @property
    def num_interruptions(self) -> int:
        """How many processes died while they had claimed this batch."""
        counter = _counter(self.folder, self.paths)
        return counter.stat().st_size if counter.is_file() else 0

    def put_back(self) -> None:
        """Make the batch wait again. Whatever now has one of its names is not replaced."""
        _put_back(self.folder)

    def finish(self) -> None:
        """Delete the batch, which was stored; it disappears completely or not at all."""
        done = self.folder.with_name(self.folder.name.replace(CLAIMED, FINISHED))
        self.forget_interruptions()
        self.folder.rename(done)
        with contextlib.suppress(OSError):  # the next addition tries again
            discard(done)

    def forget_interruptions(self) -> None:
        """Stop counting, since the batch is added or refused."""
        _counter(self.folder, self.paths).unlink(missing_ok=True)


def claim(paths: Sequence[Path]) -> Claim:
    """Claim the paths of one batch. Raises FileNotFoundError if another process was faster."""
    incoming = paths[0].parent
    folder = incoming / f"{CLAIMED}{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        claimed = tuple(path.rename(folder / path.name) for path in paths)
    except BaseException:
        _put_back(folder)
        raise
    flush(folder)
    flush(incoming)
    return Claim(folder, claimed)


def left_claims(incoming: Path) -> list[Path]:
    """The paths of batches that are claimed: by a running process, or by one that died."""
    return [path for folder in _folders(incoming, CLAIMED) for path in sorted(folder.iterdir())]


def are_claims_left(incoming: Path) -> bool:
    """Whether there is anything to put back or to delete."""
    return any(_folders(incoming, prefix) for prefix in (CLAIMED, FINISHED))


def put_all_back(incoming: Path) -> None:
    """Put back the claims of processes that died; the caller must exclude running ones."""
    for folder in _folders(incoming, CLAIMED):
        with contextlib.suppress(OSError):  # it stays claimed, and `digits dataset show` lists it
            _count_interruption(folder)
            _put_back(folder)
    for folder in _folders(incoming, FINISHED):
        with contextlib.suppress(OSError):
            discard(folder)


def unclaimed(message: str) -> str:
    """Name a claimed file by its path in the incoming folder."""
    return OURS.sub("", message).replace("//", "/")


def _folders(incoming: Path, prefix: str) -> list[Path]:
    names = sorted(incoming.glob(f"{prefix}*"))
    ours = (path for path in names if OURS.fullmatch(path.name))
    return [path for path in ours if path.is_dir() and not path.is_symlink()]


def _count_interruption(folder: Path) -> None:
    """Add a byte to the file that counts the interruptions of a batch."""
    paths = sorted(folder.iterdir())
    if not paths:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(_counter(folder, paths), flags, 0o666)
    try:
        os.write(descriptor, b".")
    finally:
        os.close(descriptor)


def _counter(folder: Path, paths: Sequence[Path]) -> Path:
    """A file named by what identifies the files wherever they are moved, under any name."""
    key = hashlib.sha256(repr(sorted(others_of(paths).values())).encode()).hexdigest()
    return folder.with_name(f"{INTERRUPTED}{key[:32]}")


def _put_back(folder: Path) -> None:
    if not folder.exists():  # finished
        return
    for path in sorted(folder.iterdir()):
        if not _moved_back(path, folder.parent / path.name):
            number = folder.name.removeprefix(CLAIMED)[:8]
            path.rename(folder.parent / f"{number}-{path.name}")
    flush(folder.parent)
    folder.rmdir()


def _moved_back(path: Path, target: Path) -> bool:
    """Move a file or folder, unless the name is taken; a plain rename would replace a file."""
    mode = path.lstat().st_mode
    with contextlib.suppress(OSError):
        if stat.S_ISREG(mode):
            target.hardlink_to(path)
            path.unlink()
            return True
        if stat.S_ISDIR(mode):
            path.rename(target)
            return True
    return False
