"""What the model sees in a user's picture: one field per digit, or why there is none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from digits.errors import DataError
from digits.labeling.image_files import Grey, GreyImage
from digits.spec import ImageShape

# Imported when the first picture is prepared: it needs SciPy, and a server starts without it.
if TYPE_CHECKING:
    from digits.labeling.centering import Centered


@dataclass(frozen=True)
class Picture:
    """An image as the model sees it, uint8 (H, W), and, if kept, the gray original (h, w).

    `note` says what is unusual about it. The digits of one picture are numbered from 1.
    """

    file: str
    seen: Grey
    original: Grey | None = None
    note: str | None = None
    part: int = 1


@dataclass(frozen=True)
class Refused:
    """A file that could not be labeled, and why."""

    file: str
    error: str


See = Callable[[Grey, ImageShape], list["Centered"]]
"""Finds what the model is to see in a gray image (h, w): one field (H, W) per digit."""


def way_of_seeing(
    *, as_is: bool | None, each: bool, is_centered: bool, max_digits: int | None = None
) -> See:
    """Return how pictures are prepared.

    `as_is`: whether they already have the dataset's form, so that they are not centered and scaled
    (default: what the dataset spec says, `is_centered`). `each`: cut out every digit of a picture,
    in reading order; a picture of more than `max_digits` is refused.
    """
    from digits.labeling.centering import center_each

    as_is = not (is_centered or each) if as_is is None else as_is
    if as_is:
        return _as_they_are
    return partial(center_each, max_digits=max_digits) if each else _as_one


def prepare(
    file: str,
    read: Callable[[], GreyImage],
    shape: ImageShape,
    see: See,
    *,
    keep_original: bool = False,
) -> list[Picture | Refused]:
    """Return the digits of a picture that `read` reads, or why there are none."""
    try:
        image = read()
        found = see(image.grey, shape)
    except DataError as error:
        return [Refused(file, str(error))]
    frames = f"first of {image.num_frames} images in the file" if image.num_frames > 1 else None
    original = image.grey if keep_original else None
    return [
        Picture(file, seen, original, "; ".join(filter(None, (note, frames))) or None, part)
        for part, (seen, note) in enumerate(found, 1)
    ]


def _as_one(grey: Grey, shape: ImageShape) -> list["Centered"]:
    from digits.labeling.centering import center

    return [center(grey, shape)]


def _as_they_are(grey: Grey, shape: ImageShape) -> list["Centered"]:
    from digits.labeling.centering import Centered

    if grey.shape != shape:
        found, expected = ("x".join(map(str, size)) for size in (grey.shape, shape))
        raise DataError(
            f"has {found} pixels, but is labeled as it is (expected {expected}); without as_is "
            "(--center), it is centered and scaled first"
        )
    return [Centered(grey)]
