"""Find a user's images: each file that is named, and the images in each folder that is."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from digits.datasets.files.ignored import is_ignored
from digits.labeling.image_files import STANDARD_INPUT

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)
# How the formats start that are read: a file is an image whatever its name if it starts so.
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
LONGEST = 8


@dataclass
class Passed:
    """What folders contain besides images, counted by suffix, and the folders without any."""

    suffixes: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    without_images: list[str] = field(default_factory=list)

    @property
    def num_files(self) -> int:
        """The number of files that are not images."""
        return self.suffixes.total()

    @property
    def is_complete(self) -> bool:
        """Whether every folder could be read and has an image."""
        return not self.unreadable and not self.without_images

    def sentences(self) -> list[str]:
        """Return what to tell the user, one line each; nothing if all files are images."""
        lines = [f"{folder}: cannot be read: {why}" for folder, why in self.unreadable.items()]
        lines += [f"{folder}: contains no images" for folder in self.without_images]
        if self.suffixes:
            kinds = ", ".join(
                f"{count:,} {suffix}" for suffix, count in self.suffixes.most_common()
            )
            lines.append(
                f"not labeled: {kinds} (read are PNG, JPEG, WebP, BMP, TIFF and GIF images)"
            )
        return lines


def find_files(arguments: Iterable[str], passed: Passed | None = None) -> Iterator[str]:
    """Yield each argument that is a file, and each image below a folder, sorted by name.

    Files of other formats are counted in `passed`, except hidden ones and those of operating
    systems. Links to folders are not followed.
    """
    passed = Passed() if passed is None else passed
    for argument in arguments:
        if argument != STANDARD_INPUT and Path(argument).is_dir():
            yield from _below(argument, passed)
        else:
            yield argument


def _below(folder: str, passed: Passed) -> Iterator[str]:
    has_images = False
    for path in _files(folder, passed):
        if _is_image(path):
            has_images = True
            yield str(path)
        else:
            passed.suffixes[path.suffix.lower() or "without a suffix"] += 1
    if not has_images and folder not in passed.unreadable:
        passed.without_images.append(folder)


def _files(folder: str, passed: Passed) -> Iterator[Path]:
    def note(error: OSError) -> None:
        passed.unreadable[str(error.filename)] = error.strerror or str(error)

    for parent, folders, names in os.walk(folder, onerror=note):
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        passed.suffixes["links to folders"] += len(linked)
        folders[:] = sorted(name for name in folders if not is_ignored(name))
        yield from (Path(parent, name) for name in sorted(names) if not is_ignored(name))
    # A count of zero would be printed.
    passed.suffixes += Counter()


def _is_image(path: Path) -> bool:
    """Whether a file's name or first bytes say that it is an image."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(LONGEST).startswith(SIGNATURES)
    except OSError:
        return False
