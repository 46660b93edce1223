"""The files of a batch, listed within bounds before any of them is opened."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from digits.datasets.defects import refuse
from digits.storage.files import file_digest, printable

MAX_FILES = 500_000
# A million images of 28x28 pixels as text take about 3 GB. Hashing this much takes seconds.
MAX_BYTES = 4 * 2**30
# A tree has two levels of folders: split and class.
MAX_DEPTH = 8

KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A file of a batch: its name within the batch, and what changes if it is written to."""

    name: str
    path: Path
    kind: str
    size: int
    state: tuple[int, ...]


def list_files(paths: Sequence[Path], *, are_links_followed: bool) -> list[BatchFile]:
    """List all files of a batch, in order.

    Raises DefectError for too many, too large or too deeply nested files and, unless links are
    followed, for a symbolic link, which could lead to a file that its sender cannot read.
    """
    files: list[BatchFile] = []
    num_bytes = 0
    for file in _walk(paths):
        if file.kind == "link" and not are_links_followed:
            refuse("file_type", file.name, "is a symbolic link", "the file itself")
        files.append(file)
        num_bytes += file.size if file.kind == "file" else 0
        if num_bytes > MAX_BYTES:
            refuse("unbounded", file.name, f"and others have {num_bytes:,} bytes", _most("bytes"))
        if len(files) > MAX_FILES:
            refuse("unbounded", file.name, f"is file number {len(files):,}", _most("files"))
    return files


def digests_of(files: Sequence[BatchFile]) -> dict[str, str]:
    """SHA-256 of each regular file, by name."""
    return {file.name: file_digest(file.path) for file in files if file.kind == "file"}


def others_of(paths: Sequence[Path]) -> Mapping[str, str]:
    """What tells batches apart that have no digests: kind, size and times of the top entries."""
    return {file.name: f"{file.kind} {file.size} {file.state}" for file in map(_top, paths)}


def _most(what: str) -> str:
    most = MAX_BYTES if what == "bytes" else MAX_FILES
    return f"at most {most:,} {what} in a batch; split it into several"


def _walk(paths: Sequence[Path]) -> Iterator[BatchFile]:
    waiting = [(path, printable(path.name), 0) for path in reversed(paths)]
    while waiting:
        path, name, depth = waiting.pop()
        if not (path.is_dir() if depth == 0 else stat.S_ISDIR(path.lstat().st_mode)):
            yield _file(path, name)
            continue
        if depth == 0 and path.is_symlink():
            yield _file(path, name)
        if depth > MAX_DEPTH:
            refuse("unbounded", name, f"is nested {depth} folders deep", f"at most {MAX_DEPTH}")
        inside = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
        waiting += [
            (Path(entry.path), f"{name}/{printable(entry.name)}", depth + 1) for entry in inside
        ]


def _top(path: Path) -> BatchFile:
    return _file(path, printable(path.name))


def _file(path: Path, name: str) -> BatchFile:
    status = path.lstat()
    kind = KINDS.get(stat.S_IFMT(status.st_mode), "folder or device")
    state = (status.st_ino, status.st_size, status.st_mtime_ns)
    return BatchFile(name, path, kind, status.st_size, state)
