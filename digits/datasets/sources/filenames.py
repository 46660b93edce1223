"""What the names of files and folders say of the split."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from digits.thresholds import Split

WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}


def split_of(name: str) -> Split | None:
    """The split that the name of a file or folder says, as in train.csv or test-00000-of-00002."""
    said = {WORDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in WORDS}
    return said.pop() if len(said) == 1 else None


def splits_of(files: Sequence[Path]) -> dict[Path, Split | None]:
    """The split of each file; of none where their names do not say both."""
    found = {file: split_of(file.name) for file in files}
    return found if set(found.values()) >= {"train", "test"} else dict.fromkeys(files)
