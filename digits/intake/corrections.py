"""Corrections: what people say that a picture shows, kept until a person passes them on.

artifacts/feedback/DATASET/corrections/CLASS has one PNG for each picture, named by its pixels. A
person looks through these folders, deletes what is wrong or moves it to the right class, and then
passes everything on as a batch (digits.intake.corrected_batches). Until then no run uses it.
"""

import contextlib
import functools
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from digits.datasets.defects import Defects
from digits.datasets.files.file_names import parse_name
from digits.datasets.files.ignored import is_ignored, is_marker
from digits.datasets.formats.label_text import as_text
from digits.datasets.formats.pictures import decode_picture
from digits.errors import DataError, DigitsError
from digits.settings import Settings
from digits.spec import ImageShape, Layout
from digits.storage.files import flush, make_folder, printable, write_whole
from digits.storage.locks import hold

MAX_CORRECTIONS = 10_000
"""Of one dataset: more would be a flood that nobody looks through."""
PNG = b"\x89PNG\r\n\x1a\n"

# Not from digits.datasets.images, which imports Arrow: a server imports this module.
Images = npt.NDArray[np.uint8]
Outcome = Literal["kept", "known", "changed"]


class FullError(DigitsError):
    """So many corrections wait that no more are kept."""


@dataclass(frozen=True)
class Correction:
    """An image as the model saw it, uint8 (H, W), and the class indices said and predicted."""

    image: Images
    label: int
    predicted: int
    version: int
    """The model version that answered."""


def keep_correction(correction: Correction, layout: Layout, settings: Settings) -> Outcome:
    """Keep a correction, at most one for the same pixels; a later label replaces an earlier one.

    Raises FullError if too many wait, DataError for a blank image, and OSError.
    """
    if not correction.image.any():
        raise DataError("image: has no ink (expected the picture of one digit)")
    folder = corrections_folder(layout.name, settings)
    name = f"{_digest(correction.image)}.png"
    path = folder / class_folders(layout)[correction.label] / name
    with changing_corrections(layout.name, settings):
        known = next(folder.glob(f"*/{name}"), None)
        if known == path:
            return "known"
        if known is not None:
            make_folder(path.parent)
            known.rename(path)
            flush(path.parent)
            return "changed"
        if len(corrections(layout.name, settings)) >= MAX_CORRECTIONS:
            raise FullError(
                f"{MAX_CORRECTIONS:,} corrections of {layout.name} wait already; whoever runs this "
                f"server can pass them on with `digits feedback add {layout.name}`"
            )
        write_whole(path, _png(correction, layout))
    return "kept"


def corrections(dataset: str, settings: Settings) -> list[Path]:
    """List the pictures that wait, by class folder; a killed process's leftovers do not count."""
    return pictures_in(corrections_folder(dataset, settings))


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures in class folders, without hidden files."""
    return sorted(path for path in folder.glob("*/*") if not is_ignored(path.name))


def feedback_folder(dataset: str, settings: Settings) -> Path:
    """The folder of what users of the champion left."""
    return settings.artifacts_dir / "feedback" / dataset


def corrections_folder(dataset: str, settings: Settings) -> Path:
    """The folder of the corrections that wait: one folder for each class."""
    return feedback_folder(dataset, settings) / "corrections"


@contextlib.contextmanager
def changing_corrections(dataset: str, settings: Settings) -> Iterator[None]:
    """Exclude other processes while corrections are kept or passed on."""
    with hold(feedback_folder(dataset, settings) / "corrections.lock"):
        yield


@functools.cache
def class_folders(layout: Layout) -> tuple[str, ...]:
    """Name the folder of each class: by the class, or "class-3" if no folder can have its name."""
    return tuple(
        name if can_name_folder(name) else f"class-{label}"
        for label, name in enumerate(layout.class_names)
    )


def label_of(folder: Path, layout: Layout) -> int:
    """Return the class of a class folder. Raises DataError if it is none of this dataset's."""
    folders = class_folders(layout)
    if folder.name not in folders:
        raise DataError(
            f"{printable(str(folder))}: unknown class (expected one of {folders[0]} to "
            f"{folders[-1]}); move its pictures to the folder of their class, or delete it"
        )
    return folders.index(folder.name)


def can_name_folder(name: str) -> bool:
    """Whether a folder can have the name of a class, and would be read as that class."""
    is_plain = name.isprintable() and name == Path(name).name == as_text(name)
    return (
        0 < len(name.encode()) < 256
        and is_plain
        and not (is_ignored(name) or is_marker(name) or parse_name(name).split)
    )


def read_correction(content: bytes, place: str, shape: ImageShape) -> Images:
    """Decode a PNG of the model's size as uint8 (H, W). Raises DataError naming the place."""
    defects = Defects()
    image = decode_picture(content, place, shape, defects) if content.startswith(PNG) else None
    if image is None or image.itemsize > 1:
        reasons = "; ".join(defect.found for defect in defects.found) or "is no such picture"
        size = f"{shape[0]} x {shape[1]}"
        raise DataError(f"{place}: {reasons} (expected a gray 8-bit PNG of {size} pixels)")
    return image.astype(np.uint8)


def _digest(image: Images) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:32]


def _png(correction: Correction, layout: Layout) -> bytes:
    """Encode the pixels anew, so that nothing else of a stranger's file is stored."""
    about = PngInfo()
    about.add_text("dataset", layout.name)
    about.add_text("version", str(correction.version))
    about.add_text("predicted", class_folders(layout)[correction.predicted])
    about.add_text("time", datetime.now(UTC).isoformat(timespec="seconds"))
    content = io.BytesIO()
    Image.fromarray(correction.image).save(content, "PNG", pnginfo=about)
    return content.getvalue()
