"""Detecting a changed file without reading it."""

from pathlib import Path

Signature = tuple[int, ...] | str


def signature_of(path: Path) -> Signature:
    """Return a value that changes when the file is written to or replaced."""
    status = path.stat()
    # Unlike the modification time, the change time cannot be set back after an edit.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
