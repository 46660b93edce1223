"""Passes corrections on: all that wait become one batch in the dataset's incoming folder.

A person starts this after looking at them, since anybody who reaches the server can correct an
answer. The next run validates the batch like any other. Nothing is lost or passed on twice if the
process is killed: what is taken is moved aside first, and a file beside it says that the batch is
written, so that moving the batch to its name decides.
"""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from digits.datasets.images import Images
from digits.intake.corrections import (
    can_name_folder,
    changing_corrections,
    corrections,
    corrections_folder,
    feedback_folder,
    label_of,
    pictures_in,
    read_correction,
)
from digits.intake.incoming import incoming_folder
from digits.settings import Settings
from digits.spec import DatasetSpec
from digits.storage.files import discard, flush, make_folder, printable, read_file, write_whole

LEAVING, WRITTEN = "leaving-", ".written"
# The ranges of pixels in which a picture of 8 bits can be a dataset's file.
OF_PICTURES = frozenset({(0, 255), (0, 65535)})


@dataclass(frozen=True)
class PassedOn:
    """A new batch in the incoming folder, and its number of images by class name."""

    batch: Path
    sizes: Mapping[str, int]


def waiting_corrections(spec: DatasetSpec, settings: Settings) -> Counter[str]:
    """Count the corrections that wait, by class name; includes those of a killed `pass_on`.

    Raises DataError for a folder that is no class.
    """
    paths = corrections(spec.name, settings)
    for left in _leaving(feedback_folder(spec.name, settings)):
        if not _marker(left).exists() or _draft(left, spec, settings).exists():
            paths += pictures_in(left)
    return _sizes(paths, spec)


def pass_on(spec: DatasetSpec, settings: Settings) -> list[PassedOn]:
    """Move all corrections that wait into the incoming folder as a batch; none if nothing waits.

    Also completes what a killed process began, as a batch of its own. Raises DataError, and keeps
    everything, if a file is not a picture of the model's size; also raises OSError.
    """
    folder = feedback_folder(spec.name, settings)
    with changing_corrections(spec.name, settings):
        waiting = corrections_folder(spec.name, settings)
        if pictures_in(waiting):
            for _ in _read(waiting, spec):  # refuse what is wrong before anything is moved
                pass
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = folder / f"{LEAVING}corrections-{now}-{uuid.uuid4().hex[:8]}"
            waiting.rename(aside)
            flush(folder)
        done = [_complete(left, spec, settings) for left in _leaving(folder)]
        for marker in folder.glob(f"{LEAVING}*{WRITTEN}"):
            marker.unlink()
    return [passed for passed in done if passed is not None]


def _complete(left: Path, spec: DatasetSpec, settings: Settings) -> PassedOn | None:
    """Write a batch, move it to its name and delete the originals: whatever is left to do."""
    draft, passed = _draft(left, spec, settings), None
    if pictures_in(left) and not _marker(left).exists():
        make_folder(draft.parent)
        discard(draft)
        (_write_folders if _can_be_pictures(spec) else _write_arrays)(left, draft, spec)
        flush(draft.parent)
        write_whole(_marker(left), b"")
    if draft.exists():
        batch = draft.with_name(draft.name.removeprefix(".") + ("" if draft.is_dir() else ".npz"))
        passed = PassedOn(batch, _sizes(pictures_in(left), spec))
        draft.rename(batch)
        flush(draft.parent)
    discard(left)
    _marker(left).unlink(missing_ok=True)
    return passed


def _write_folders(left: Path, draft: Path, spec: DatasetSpec) -> None:
    """Write class folders of pictures, of which a person can take out one that is refused."""
    for path, image, name in _read(left, spec):
        target = draft / name / path.name
        make_folder(target.parent)
        Image.fromarray(image).save(target, "PNG")
        flush(target)
    for folder in (*draft.iterdir(), draft):
        flush(folder)


def _write_arrays(left: Path, draft: Path, spec: DatasetSpec) -> None:
    """Write arrays with the dataset's own range of values, for labels of any text."""
    low, high = spec.pixel_range
    _, images, names = zip(*_read(left, spec), strict=True)
    values = np.stack(images)
    if (low, high) != (0, 255):
        values = low + values * ((high - low) / 255)
    with draft.open("wb") as file:
        np.savez(file, x_train=values, y_train=np.array(names))
    flush(draft)


def _read(left: Path, spec: DatasetSpec) -> Iterator[tuple[Path, Images, str]]:
    """Yield each picture as the dataset's files have it, and its class name."""
    for path in pictures_in(left):
        place = printable(str(path))
        image = read_correction(read_file(path), place, spec.image_shape)
        stored = np.ascontiguousarray(image.T) if spec.transposed else image
        yield path, stored, spec.layout.class_names[label_of(path.parent, spec.layout)]


def _can_be_pictures(spec: DatasetSpec) -> bool:
    return spec.pixel_range in OF_PICTURES and all(map(can_name_folder, spec.layout.class_names))


def _leaving(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{LEAVING}*") if path.is_dir())


def _marker(left: Path) -> Path:
    return left.with_name(left.name + WRITTEN)


def _draft(left: Path, spec: DatasetSpec, settings: Settings) -> Path:
    """Where a batch is written: names that begin with a dot are not batches yet."""
    return incoming_folder(spec.name, settings) / f".{left.name.removeprefix(LEAVING)}"


def _sizes(paths: Sequence[Path], spec: DatasetSpec) -> Counter[str]:
    labels = Counter(label_of(path.parent, spec.layout) for path in paths)
    return Counter({spec.layout.class_names[n]: labels[n] for n in sorted(labels)})
