"""Preprocess an image of one digit as MNIST's authors did theirs.

Their procedure (http://yann.lecun.com/exdb/mnist/): scale the digit with an anti-aliasing filter to
fit into 20x20 pixels, keeping its aspect ratio, and place it in a 28x28 field so that its center of
mass is at the field's center. Their originals were black and white; in other images the ink must
first be separated from the background.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.errors import DataError
from digits.labeling.image_files import Grey
from digits.labeling.parts import describe, digits_of, num_parts
from digits.labeling.separation import Floats, Ink, Mask, box_of, separate
from digits.spec import ImageShape

FIELD, BOX = 28, 20
# Paper around a digit that is cut out of a row, as a share of its larger side.
MARGIN = 0.25
# Parts of a digit, with specks beside it.
PARTS = 3


class Centered(NamedTuple):
    """A digit centered in a field, uint8 (H, W), and what is unusual about its picture."""

    seen: Grey
    note: str | None = None


def center(grey: Grey, shape: ImageShape) -> Centered:
    """Center the digit of a gray image (h, w), light on black, in a field (H, W).

    Raises DataError if nothing stands out from the background.
    """
    ink = separate(grey)
    return Centered(_centered(ink, ink.is_digit, shape), describe(ink.is_digit, grey.shape))


def centered(grey: Grey, shapes: Sequence[ImageShape]) -> list[Grey]:
    """Center the digit of a gray image in a field of each shape, without a note; see center."""
    ink = separate(grey)
    return [_centered(ink, ink.is_digit, shape) for shape in shapes]


def center_each(grey: Grey, shape: ImageShape, max_digits: int | None = None) -> list[Centered]:
    """Center each digit of a gray image (h, w) in a field (H, W) of its own, in reading order.

    Raises DataError if nothing stands out from the background, or if there are more digits than
    `max_digits`, which would take long.
    """
    ink = separate(grey)
    if max_digits is not None and num_parts(ink.is_digit) > PARTS * max_digits:
        raise _too_many(max_digits)
    digits = digits_of(ink.is_digit)
    if max_digits is not None and len(digits) > max_digits:
        raise _too_many(max_digits)
    if len(digits) == 1:
        return [center(grey, shape)]
    return [center(_alone(grey[ink.box], digit, ink.is_digit), shape) for digit in digits]


def _too_many(max_digits: int) -> DataError:
    return DataError(f"has too many digits (expected at most {max_digits} in a picture)")


def _alone(grey: Grey, is_one: Mask, is_any: Mask) -> Grey:
    """Cut one of several digits out of a picture, and paint the others over."""
    rows, columns = box_of(is_one)
    margin = max(2, round(MARGIN * max(rows.stop - rows.start, columns.stop - columns.start)))
    padded = np.pad(grey, margin, mode="edge")
    is_other, is_ink = (
        np.pad(ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2), margin)
        for mask in (is_any & ~is_one, is_any)
    )
    near = np.s_[rows.start : rows.stop + 2 * margin, columns.start : columns.stop + 2 * margin]
    is_paper = ~is_ink[near]
    paper = np.median(padded[near][is_paper]) if is_paper.any() else 0
    is_near_one = np.pad(is_one, margin)[near]
    alone: Grey = np.where(is_other[near] & ~is_near_one, paper, padded[near]).astype(np.uint8)
    return alone


def _centered(ink: Ink, is_digit: Mask, shape: ImageShape) -> Grey:
    digit: Floats = np.where(is_digit, ink.strength, 0)[box_of(is_digit)].clip(0, 1)
    return place(fit(digit, shape), shape)


def fit(digit: Floats, shape: ImageShape) -> Floats:
    """Scale a digit (h, w) into 20/28 of a field (H, W), keeping the aspect ratio; peak at 1."""
    box = [max(1, round(side * BOX / FIELD)) for side in shape]
    scale = min(box[0] / digit.shape[0], box[1] / digit.shape[1])
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    scaled = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BILINEAR))
    digit_in_box: Floats = scaled / scaled.max()
    return digit_in_box


def place(digit: Floats, shape: ImageShape) -> Grey:
    """Place a digit (h, w) in 0..1 in a black field (H, W), its center of mass at the center."""
    top, left = (
        min(max(round(side / 2 - middle), 0), side - extent)
        for side, middle, extent in zip(
            shape, ndimage.center_of_mass(digit), digit.shape, strict=True
        )
    )
    field = np.zeros(shape, np.uint8)
    height, width = digit.shape
    field[top : top + height, left : left + width] = (digit * 255).round()
    return field
