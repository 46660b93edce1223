"""Whether a file is still the one that was looked at, told without reading it."""

from pathlib import Path

Signature = tuple[int, ...] | str


def signature_of(path: Path) -> Signature:
    """What is another after a file was written to or replaced."""
    status = path.stat()
    # Unlike the modification time, the change time cannot be set back after an edit.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
