"""Archives of a dataset's four files, as its sources serve them."""

import gzip
import io
import tarfile
import zipfile
from typing import Any, cast

import numpy as np

from digits.datasets.sources.archives import FILE_NAMES
from digits.datasets.sources.idx import format_idx
from digits.datasets.sources.npz import KEYS
from digits.spec import Role
from digits.thresholds import SPLITS
from tests.support.handwriting import Splits


def idx_files(splits: Splits) -> dict[Role, bytes]:
    """Format a dataset as IDX files, a pair per split."""
    files: dict[Role, bytes] = {}
    for split in filter(splits.__contains__, SPLITS):
        images, labels = splits[split]
        files[cast(Role, f"{split}-images")] = format_idx(images)
        files[cast(Role, f"{split}-labels")] = format_idx(labels)
    return files


def npz(splits: Splits, **others: Any) -> bytes:
    """Format a dataset as Keras distributes MNIST; `others` replace its arrays by name."""
    arrays: dict[str, Any] = {}
    for split in filter(splits.__contains__, SPLITS):
        images, labels = splits[split]
        arrays |= {f"x_{split}": images, f"y_{split}": labels.astype(np.uint8)}
    file = io.BytesIO()
    np.savez_compressed(file, **(arrays | others))
    return file.getvalue()


def npz_of_members(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Pack a zip file of .npy members under Keras's names; `members` replaces bytes by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in KEYS.values():
            archive.writestr(f"{name}.npy", members.get(name, npy(np.zeros((2, 12, 12), np.uint8))))
    return file.getvalue()


def npy(array: Any) -> bytes:
    """Format an array as numpy saves it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tar(files: dict[Role, bytes], *others: tarfile.TarInfo, folder: str = "data") -> bytes:
    """Pack an npm package, uncompressed; `others` are members without content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in others:
            archive.addfile(member)
        for role, content in files.items():
            member = tarfile.TarInfo(f"package/{folder}/{FILE_NAMES[role]}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def package(files: dict[Role, bytes], *others: tarfile.TarInfo) -> bytes:
    """Pack an npm package with the files in its folder `data`."""
    return gzip.compress(tar(files, *others))
