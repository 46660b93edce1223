"""Which arrays of .npz and .npy files belong together: images with their labels, by their names."""

import zipfile
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from digits.datasets.defects import refuse
from digits.datasets.files.file_layouts import is_by_role, said_splits
from digits.datasets.files.file_names import Kind, SaidSplit, parse_name
from digits.datasets.sources.npz import ENTRY, MAX_ENTRIES, METHODS
from digits.thresholds import DefectName

NAMES = ("x_train", "y_train", "x_test", "y_test")
EXPECTED = f"{', '.join(NAMES[:2])} and optionally a test split"
# A zip file's end-of-central-directory record is at most this far from the end of the file.
TAIL = 2**16 + 22


@dataclass(frozen=True)
class ArrayFile:
    """An array: a member of an .npz, or an .npy file by itself (`member` is None)."""

    path: Path
    member: str | None

    @property
    def name(self) -> str:
        """The name of the array in messages."""
        return self.path.name if self.member is None else self.member.removesuffix(".npy")

    @property
    def place(self) -> str:
        """The file and the array."""
        return str(self.path) if self.member is None else f"{self.path}: {self.name}"

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the .npy file. Raises ValueError for a compression that numpy never writes."""
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive:
            # Only these are decompressed in pieces, never beyond the requested size.
            if archive.getinfo(self.member).compress_type not in METHODS:
                raise ValueError(f"{self.name} uses a compression method that numpy never writes")
            with archive.open(self.member) as file:
                yield file


@dataclass(frozen=True)
class Pair:
    """Images, their labels, and the split that their names state."""

    said: SaidSplit | None
    images: ArrayFile
    labels: ArrayFile


def find_pairs(files: Sequence[Path]) -> list[Pair]:
    """Return all arrays of these files in pairs.

    An .npz has pairs of its own; or each file, .npy or .npz, has one array of a pair, and its name
    says which. Raises DefectError naming arrays that are in no pair.
    """
    said = said_splits(files)
    if is_by_role(files):
        return _paired([(file, said[file], file.name, _only_array(file)) for file in files])
    pairs = []
    for file in files:
        if file.suffix.lower() == ".npy":
            found, expected = "is a single array", "a second file with its labels (x.npy, y.npy)"
            refuse("label_missing", str(file), found, expected)
        arrays = [ArrayFile(file, member) for member in _members(file)]
        pairs += _paired([(file, said[file], array.name, array) for array in arrays])
    return pairs


def _paired(arrays: Sequence[tuple[Path, SaidSplit | None, str, ArrayFile]]) -> list[Pair]:
    """Pair arrays by split and by what else their names say."""
    path = arrays[0][0] if arrays else Path()
    listed = ", ".join(array.name for *_, array in arrays[:8]) or "no arrays"
    found: dict[tuple[SaidSplit | None, str], dict[Kind, ArrayFile]] = {}
    for file, said, name, array in arrays:
        named = parse_name(name)
        if named.kind is None:
            _refuse_unknown(file, array, listed)
        pair = found.setdefault((named.split or said, named.stem), {})
        if named.kind in pair:
            also = f"has both {pair[named.kind].name} and {array.name}"
            refuse("file_type", str(file), also, f"one array of {named.kind} for each split")
        pair[named.kind] = array
    if not found:
        refuse("corrupt_file", str(path), "has no arrays", EXPECTED)
    return [_complete(key[0], pair, listed) for key, pair in found.items()]


def _complete(said: SaidSplit | None, pair: dict[Kind, ArrayFile], listed: str) -> Pair:
    if len(pair) < 2:
        _refuse_half(next(iter(pair.values())), pair, listed)
    return Pair(said, pair["images"], pair["labels"])


def _refuse_half(array: ArrayFile, pair: Container[Kind], listed: str) -> NoReturn:
    check: DefectName = "label_missing" if "images" in pair else "corrupt_file"
    other = "labels" if "images" in pair else "images"
    found = f"has {listed}, but no {_partner(array.name)}"
    advice = f"{other} for {array.name}, or neither: {EXPECTED}"
    refuse(check, str(array.path), found, advice)


def _partner(name: str) -> str:
    """The usual name of the array that belongs to another."""
    pairs = (("x_", "y_"), ("images", "labels"), ("imgs", "labels"), ("data", "target"))
    for one, other in pairs:
        for here, there in ((one, other), (other, one)):
            if here in name.lower():
                return name.lower().replace(here, there)
    return f"partner of {name}"


def _refuse_unknown(file: Path, array: ArrayFile, listed: str) -> NoReturn:
    if array.name.startswith("arr_"):
        expected = (
            "names that say what they are, such as numpy.savez(file, x_train=..., y_train=...)"
        )
        refuse("file_type", str(file), f"has arrays without names ({listed})", expected)
    expected = f"nothing but images and labels: {EXPECTED}; save it again without {array.name}"
    refuse("file_type", str(file), f"has {listed}: {array.name} would not be read", expected)


def _only_array(file: Path) -> ArrayFile:
    if file.suffix.lower() == ".npy":
        return ArrayFile(file, None)
    members = _members(file)
    if len(members) != 1:
        found = f"has {len(members):,} arrays, but its name says that it has only one kind"
        refuse("file_type", str(file), found, "one array")
    return ArrayFile(file, members[0])


def _members(path: Path) -> list[str]:
    """List an archive. Rejects one with too many entries: zipfile creates an object for each."""
    size = path.stat().st_size
    if not size:
        refuse("empty_file", str(path), "is empty", f"an .npz with {', '.join(NAMES)}")
    with path.open("rb") as file:
        file.seek(max(0, size - TAIL))
        end = file.read()
        at = end.rfind(b"PK\x05\x06")
        if at < 0 or len(end) < at + 22:
            raise zipfile.BadZipFile("File is not a zip file or is truncated")
        length = int.from_bytes(end[at + 12 : at + 16], "little")
        if length > MAX_ENTRIES * 1024 or end.count(ENTRY) > MAX_ENTRIES:
            refuse("unbounded", str(path), f"lists more than {MAX_ENTRIES} files", f"{len(NAMES)}")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if len(set(names)) < len(names):
        refuse("file_type", str(path), "has two arrays of one name", "one array for each name")
    return names
