"""Local copies of small objects, so that unchanged ones are read once by each machine."""

import contextlib
import uuid
from pathlib import Path


class Mirror:
    """The copies in a folder. What they contain is checked by whoever uses it, as if it were new.

    A copy begins with the tag of the object that it was read from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, tag: str) -> bytes | None:
        """Return the copy of the object with this tag, or None."""
        try:
            found, _, content = (self.folder / name).read_bytes().partition(b"\n")
        except OSError:
            return None
        return content if tag and found == tag.encode() else None

    def write(self, name: str, tag: str, content: bytes) -> None:
        """Keep a copy; without space or permission there is none."""
        path = self.folder / name
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(tag.encode() + b"\n" + content)
            temporary.replace(path)
