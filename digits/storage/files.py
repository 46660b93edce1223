"""Crash-safe writing of files, and file digests."""

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

from digits.escaping import one_line
from digits.storage import locks

Signature = tuple[int, ...] | str
"""Identifies the content of a file without reading it."""

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files and folders."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; a pipe in its place could block forever.

    Raises OSError.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return file.read()


def flush(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents so that they survive a crash."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        flush(path.parent)


def discard(path: Path) -> None:
    """Delete a file, or a folder with its contents, if it exists. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except RecursionError as error:
            raise OSError(errno.ENAMETOOLONG, "Nested too deeply", str(path)) from error
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file atomically: readers see the old content or the new, never a part of it.

    Concurrent writers of the same file wait for each other. The temporary file of a killed writer
    is reused.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    if temporary.is_symlink():  # never ours; it could lead anywhere
        temporary.unlink()
    with os.fdopen(locks.acquire(temporary), "wb") as file:
        try:
            file.truncate()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
    flush(path.parent)


def printable(name: str) -> str:
    r"""Escape what a name from outside cannot show: "M\xe4rz" for b"M\xe4rz", r"a\nb" for "a\nb".

    Bytes that are not UTF-8 have no text; control characters and those that change the direction of
    text would alter what surrounds the name in a terminal or on a page.
    """
    return one_line(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def signature_of(path: Path) -> Signature:
    """Return a value that changes when the file is written to or replaced."""
    status = path.stat()
    # Unlike the modification time, the change time cannot be set back after an edit.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
