"""What the names of files, folders and arrays say: the split, images or labels, and the set.

Words count as a whole: `train1`, `trainingSet`, `mnistTrain` and `x_train` are about training,
`latest` and `contest` are not about testing.
"""

import functools
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, TypeVar
from urllib.parse import unquote

from digits.thresholds import Split

SaidSplit = Literal["train", "test", "validation"]
Kind = Literal["images", "labels"]
Key = TypeVar("Key")
SPLITS: tuple[SaidSplit, ...] = ("train", "test", "validation")
KINDS: tuple[Kind, ...] = ("images", "labels")

_SPLIT = (
    r"(?:(?P<train>train(?:ing|val)?)|(?P<test>test(?:ing)?|t10k)"
    r"|(?P<validation>val|valid|validation|dev))"
)
_KIND = r"(?:(?P<images>images?|imgs?|pixels|data|features)|(?P<labels>labels?|lbls?|targets?))"
SPLIT = re.compile(rf"[xy]?{_SPLIT}(?:sets?|data|split|{_KIND})?\d*")
KIND = re.compile(rf"(?:{_SPLIT})?{_KIND}\d*")
LETTER = re.compile(rf"(?:(?P<images>x)|(?P<labels>y))(?:{_SPLIT}\d*)?")
# "idx3" states the number of dimensions: images have three, labels one, QMNIST's labels two.
DIMENSIONS: Mapping[str, Kind] = {"idx3": "images", "idx1": "labels", "idx2": "labels"}
FORMATS = frozenset(
    {"idx", "ubyte", "int", "npy", "npz", "csv", "tsv", "parquet", "parq", "pq"}
    | {"gz", "gzip", "snappy", "zstd", "brotli", "part", "of"}
)
# Keys of folders such as label=3, whose values are classes and not splits.
SPLIT_KEYS = frozenset({"split", "set", "subset", "partition", "phase", "usage"})


@dataclass(frozen=True)
class NamedFile:
    """What a name says. `stem` is the rest: two files belong together if their stems are equal."""

    split: SaidSplit | None
    kind: Kind | None
    stem: str

    @property
    def series(self) -> str:
        """The stem without the names of parts: words that contain a digit, a, b, aa, ab."""
        words = [word for word in self.stem.split("-") if len(word) > 2]
        return "-".join(word for word in words if not any(map(str.isdigit, word)))


@functools.lru_cache(maxsize=4096)
def parse_name(name: str) -> NamedFile:
    """Parse a file name, or the name of an array."""
    splits: set[SaidSplit] = set()
    kinds: set[Kind] = set()
    sizes: set[Kind] = set()
    rest = []
    for word in re.findall(r"[^\W_]+", name):
        left = word.lower()
        if left in DIMENSIONS:
            sizes.add(DIMENSIONS[left])
            continue
        for part in _parts(word):
            found_splits, found_kinds = _meaning(part)
            splits |= found_splits
            kinds |= found_kinds
            if found_splits or found_kinds:
                left = left.replace(part.rstrip("0123456789"), "", 1)
        if left and left not in FORMATS:
            rest.append(left)
    # The labels of images are labels: train-image-labels.idx.
    kind: Kind | None = "labels" if "labels" in kinds else "images" if kinds else None
    kind = next(iter(sizes)) if len(sizes) == 1 else kind
    return NamedFile(_one(splits), kind, "-".join(rest))


def split_of(name: str) -> Split | None:
    """Return the split that a file or folder name states; validation data is training data."""
    said = said_split(PurePath(name))
    return "train" if said == "validation" else said


def partition_value(path: PurePath, keys: Container[str]) -> str | None:
    """Return the value of the nearest folder such as label=3 whose key is one of `keys`."""
    for part in reversed(path.parts[:-1]):
        key, is_pair, value = part.partition("=")
        if is_pair and key.lower() in keys:
            # What a path cannot contain is escaped as in an address.
            return unquote(value)
    return None


def said_split(path: PurePath) -> SaidSplit | None:
    """Return the split that the last part of a relative path with a split word states."""
    for part in reversed(path.parts):
        key, is_pair, value = part.partition("=")
        if is_pair and key.lower() not in SPLIT_KEYS:
            continue
        if (said := parse_name(value if is_pair else part).split) is not None:
            return said
    return None


def in_effect(said: Mapping[Key, SaidSplit | None]) -> dict[Key, Split | None]:
    """Return the splits that count, given those that names state.

    Validation data is training data. Other data is of the split that its name states if there is
    some to train and some to test on; otherwise it has no split (None), and a hash decides.
    """
    stated = set(said.values())
    if stated <= {"validation"}:
        return dict.fromkeys(said)
    is_complete = stated > {"test"} and stated != {"test", None}
    found: dict[Key, Split | None] = {}
    for key, split in said.items():
        found[key] = "train" if split == "validation" else split if is_complete else None
    return found


def _meaning(part: str) -> tuple[set[SaidSplit], set[Kind]]:
    splits: set[SaidSplit] = set()
    kinds: set[Kind] = set()
    for pattern in (SPLIT, KIND, LETTER):
        if match := pattern.fullmatch(part):
            groups = match.groupdict()
            splits |= {split for split in SPLITS if groups.get(split)}
            kinds |= {kind for kind in KINDS if groups.get(kind)}
    return splits, kinds


def _parts(word: str) -> Iterator[str]:
    """Yield a word in lower case, and the parts that capitals and digits divide it into."""
    found = [word, *re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", word)]
    found += re.findall(r"[a-z]+|[A-Z]+", word)
    return iter(dict.fromkeys(part.lower() for part in found))


def _one(splits: set[SaidSplit]) -> SaidSplit | None:
    # "train-val" is both at once, and so training data.
    if splits == {"train", "validation"}:
        return "train"
    return next(iter(splits)) if len(splits) == 1 else None
