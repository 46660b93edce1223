"""Decides which files at a place are read: all of one layout, and of one set.

A place that has more than that is refused, and what would be left out is named.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

from digits.datasets.defects import refuse
from digits.datasets.files.class_folders import class_folders
from digits.datasets.files.file_names import SaidSplit, in_effect, parse_name, said_split
from digits.datasets.files.ignored import is_ignored
from digits.datasets.files.inventory import Inventory
from digits.datasets.files.unlabeled import check_labeled
from digits.errors import DataError
from digits.layouts import LAYOUTS
from digits.thresholds import Split

SHARD = re.compile(r"(?P<name>.*)-\d+-of-(?P<number>\d+)(?P<rest>.*)")
# Layouts that spread images and labels over files whose names say which is which.
BY_ROLE = ("idx", "npz")
NUM_SHOWN = 6


def detect_layout(paths: Sequence[Path]) -> str:
    """Detect the layout of files, or of the files in a folder. Raises DataError if ambiguous."""
    found = Inventory.of(paths)
    try:
        return found.layout()
    except DataError as error:
        if found.layouts or len(paths) != 1:
            raise
        raise DataError(f"{error}{_beside(paths[0])}") from error


def files_in(path: Path, layout: str) -> list[Path]:
    """Return the files of a layout at a path; for layout "folder", the root of the tree."""
    found = Inventory.of([path])
    if LAYOUTS[layout].names is None:
        return [path] if path.is_dir() and found.pictures else []
    return list(found.files[layout])


def batch_files(paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """Return the layout of a batch and its files.

    Raises DataError if reading them would leave out anything but ignored files.
    """
    found = Inventory.of(paths)
    layout = found.layout()
    found.check(layout, has_documents=True)
    if LAYOUTS[layout].names is not None:
        return layout, found.files[layout]
    for path in paths:
        if not path.is_dir():
            refuse("file_type", str(path), "is a picture", "a folder of class folders")
        class_folders(path)
    return layout, list(paths)


def dataset_files(layout: str, place: Path) -> list[Path]:
    """Return the files of the dataset at a place; for layout "folder", the root of the tree.

    A file of images or of labels stands for its set: the files whose names differ only in their
    split and role. Raises DataError if `place` has more than one set, or files that would be left
    out, or if only some of the names state a split.
    """
    if LAYOUTS[layout].names is None:
        return _tree(place, layout)
    if (place / place.name).is_file():
        # A folder of its file's name, as some archives are unpacked.
        place = place / place.name
    if not place.is_dir():
        files = _set_of(place, layout)
    else:
        found = Inventory.of([place])
        files = found.files[layout]
        if files:
            _check_places(files, place)
            _check_sets(files, layout)
            found.check(layout, has_documents=False)
    if files:
        if layout == "csv":
            check_labeled(files)
        _check_splits(files)
        _check_shards(files)
    return files


def not_read(layout: str, place: Path) -> list[Path]:
    """Return what is beside a dataset's files and is no part of it, to be mentioned.

    These are documents, and the other splits next to a place that is one split.
    """
    documents = Inventory.of([place]).documents if place.is_dir() else []
    named = parse_name(place.name)
    if named.split is None or place.parent == place:
        return documents
    is_tree = LAYOUTS[layout].names is None
    beside = {
        path: parse_name(path.name)
        for path in sorted(place.parent.iterdir())
        if path.is_dir() == place.is_dir() and not is_ignored(path.name)
        if is_tree or path.is_dir() or LAYOUTS[layout].matches(path.name)
    }
    others = [
        path
        for path, facts in beside.items()
        if facts.split not in {None, named.split} and facts.series == named.series
    ]
    read = set() if place.is_dir() else set(dataset_files(layout, place))
    return documents + [path for path in others if path not in read]


def names_of(files: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each file below the folder that contains all of them."""
    base = _base(files)
    return {file: file.relative_to(base).as_posix() for file in files}


def said_splits(files: Sequence[Path]) -> dict[Path, SaidSplit | None]:
    """Return the split that the name of each file, or of a folder above it, states."""
    return {file: said_split(PurePath(name)) for file, name in names_of(files).items()}


def splits_of(files: Sequence[Path]) -> dict[Path, Split | None]:
    """Return the split of each file that counts; see in_effect."""
    return in_effect(said_splits(files))


def is_by_role(files: Sequence[Path]) -> bool:
    """Whether the names of files say which has images and which has labels."""
    kinds = {parse_name(file.name).kind for file in files}
    return kinds == {"images", "labels"}


def _tree(place: Path, layout: str) -> list[Path]:
    if place.is_file():
        expected = f"a folder of class folders, perhaps {place.parent.parent}"
        refuse("file_type", str(place), "is a single picture", expected)
    files = files_in(place, layout)
    for root in files:
        class_folders(root)
    return files


def _base(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _set_of(file: Path, layout: str) -> list[Path]:
    """Return a file, or all files of its set if its name says that it has images or labels."""
    named = parse_name(file.name)
    is_usual = LAYOUTS[layout].matches(file.name)
    if layout not in BY_ROLE or named.kind is None or not is_usual:
        return [file]
    folder = file.parent.parent if _is_wrapped(file) else file.parent
    near = [path for path in folder.iterdir() if path.is_file()]
    near += [path / path.name for path in folder.iterdir() if (path / path.name).is_file()]
    same = [path for path in sorted(near) if LAYOUTS[layout].matches(path.name)]
    facts = {path: parse_name(path.name) for path in same}
    same = [path for path in same if facts[path].stem == named.stem and facts[path].kind]
    return same if layout == "idx" or is_by_role(same) else [file]


def _is_wrapped(file: Path) -> bool:
    """Whether a file is in a folder of its own name, as some archives are unpacked."""
    return file.parent.name == file.name or file.parent.name == file.with_suffix("").name


def _place_of(file: Path, root: Path) -> Path:
    """Return the folder of a file, above folders that are part of its name."""
    if _is_wrapped(file) and file.parent != root:
        return file.parent.parent
    folder = file.parent
    while folder != root and _is_part_of_name(folder.name):
        folder = folder.parent
    return folder


def _is_part_of_name(folder: str) -> bool:
    """Whether a folder states a split, a value (label=3), or is itself called like a file."""
    if "=" in folder or parse_name(folder).split:
        return True
    return any(layout.matches(folder) for layout in LAYOUTS.values())


def _check_places(files: Sequence[Path], root: Path) -> None:
    places = sorted({_place_of(file, root) for file in files})
    if len(places) > 1:
        refuse(
            "file_type",
            str(root),
            f"has data in {len(places):,} folders ({_listed(places)})",
            "one dataset; name the folder that is meant",
        )


def _check_sets(files: Sequence[Path], layout: str) -> None:
    """Refuse files of several sets, such as EMNIST's six, instead of choosing among them."""
    named = {file: parse_name(file.name) for file in files}
    is_by_name = layout == "idx" or (layout == "npz" and is_by_role(files))
    sets: dict[str, list[Path]] = {}
    for file, facts in named.items():
        sets.setdefault(facts.stem if is_by_name else facts.series, []).append(file)
    # Two sets that both have, for example, a file for training.
    said = [split for paths in sets.values() for split in {named[path].split for path in paths}]
    is_repeated = any(said.count(split) > 1 for split in ("train", "test", "validation"))
    is_alone = layout == "npz" and None in said
    if len(sets) > 1 and (is_by_name or is_repeated or is_alone):
        examples = [f"{stem or 'no name'}: {paths[0].name}" for stem, paths in sorted(sets.items())]
        refuse(
            "file_type",
            str(_base(files)),
            f"has {len(sets):,} sets of files ({_listed(examples)})",
            f"one dataset; name a file of the set that is meant, such as {min(sets.items())[1][0]},"
            " or move the others elsewhere",
        )


def _check_splits(files: Sequence[Path]) -> None:
    said = said_splits(files)
    silent = [file for file, split in said.items() if split is None]
    testing = [file for file, split in said.items() if split == "test"]
    if testing and silent:
        refuse(
            "file_type",
            str(silent[0]),
            f"states no split, but {testing[0]} says that it is for testing",
            "a split in the names of all files or of none: rename them, or name one of them alone",
        )


def _check_shards(files: Sequence[Path]) -> None:
    """Refuse a part of the shards name-00000-of-00002."""
    shards: defaultdict[tuple[str, str, int], list[Path]] = defaultdict(list)
    for file in files:
        if match := SHARD.fullmatch(file.name):
            shards[f"{file.parent}/{match['name']}", match["rest"], int(match["number"])].append(
                file
            )
    for (_, _, number), paths in shards.items():
        if len(paths) != number:
            found = f"is one of {len(paths):,} files"
            expected = f"{number:,} according to its name; name the folder of all of them"
            refuse("count_mismatch", str(paths[0]), found, expected)


def _beside(place: Path) -> str:
    """Name folders next to a place, or above it, that have supported files."""
    near = []
    for folder in [place.parent, *sorted(place.parent.iterdir())][:50]:
        if folder.is_dir() and folder not in {place, place.parent}:
            names = [path.name for path in list(folder.iterdir())[:1000]]
            if any(layout.matches(name) for layout in LAYOUTS.values() for name in names):
                near.append(folder)
    return f"; files of a supported layout are in {_listed(near)}" if near else ""


def _listed(things: Sequence[object]) -> str:
    more = f" and {len(things) - NUM_SHOWN:,} more" if len(things) > NUM_SHOWN else ""
    return ", ".join(map(str, things[:NUM_SHOWN])) + more
