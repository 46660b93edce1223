"""From a picture of one digit to the form that MNIST's authors gave theirs.

Their way (http://yann.lecun.com/exdb/mnist/): the digit is scaled by an anti-aliasing filter so
that it fits into 20x20 pixels with its aspect ratio kept, and placed in a field of 28x28 so that
its centre of mass is the field's centre. Their pictures were black and white; in others the ink
has to be told from the ground first.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from digits.errors import DataError
from digits.labeling.image_files import Grey
from digits.spec import ImageShape

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FIELD, BOX = 28, 20
# Shares of the ink's level: what is fainter is ground, as long as the ground's noise allows it.
FAINTEST, MIDDLE = 0.12, 0.5
# The border is uneven when this share of it is neither ground nor ink.
UNEVEN = 0.1
# No stroke is wider than this share of its picture.
WIDEST = 0.5
# A stroke stands out from the ground's noise by this many standard deviations.
NOISE_LIMIT = 5.0
# What is looked at around a digit, as a share of its larger side.
MARGIN = 0.3
# Below this many of 255 levels nothing was drawn.
LEAST_CONTRAST = 12
# Specks smaller than this share of the digit's largest stroke are dropped.
SPECK = 0.1
# A normal distribution's standard deviation, of its median absolute deviation.
NORMAL = 1.4826


def center(grey: Grey, shape: ImageShape) -> Grey:
    """The digit in a grey picture (h, w), light on black, centred in a field (H, W), uint8.

    Raises DataError when nothing stands out from the ground.
    """
    return place(fit(cut_out(grey), shape), shape)


def cut_out(grey: Grey) -> Floats:
    """The digit alone: ink in 0..1 on a ground of 0, cropped to where there is ink."""
    light = grey.astype(np.float32)
    if not _is_light_on_dark(light):
        light = 255 - light
    ink, is_digit = _separate(light)
    near = _around(is_digit)
    if ink[near].shape != ink.shape:
        # What was found in a large picture is looked at again from near, and is sharper there.
        ink, is_digit = _separate(light[near])
    digit: Floats = np.where(is_digit, ink, 0)[_box(is_digit)].clip(0, 1)
    return digit


def fit(digit: Floats, shape: ImageShape) -> Floats:
    """A digit (h, w) scaled into 20/28 of a field (H, W), its aspect ratio kept, peak at 1."""
    box = [max(1, round(side * BOX / FIELD)) for side in shape]
    scale = min(box[0] / digit.shape[0], box[1] / digit.shape[1])
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    scaled = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BILINEAR))
    digit_in_box: Floats = scaled / scaled.max()
    return digit_in_box


def place(digit: Floats, shape: ImageShape) -> Grey:
    """A digit (h, w) in 0..1 in a black field (H, W), its centre of mass at the field's centre."""
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


def _separate(light: Floats) -> tuple[Floats, Mask]:
    """The ink of a light digit (h, w), about 1 in its strokes, and which pixels are the digit's."""
    smooth = _smoothed(light)
    ground = _ground(smooth)
    ink, smooth = light - ground, smooth - ground
    level, noise = _level(smooth), _spread(_border(smooth))
    if level < max(LEAST_CONTRAST, NOISE_LIMIT * noise):
        raise DataError("shows no digit: nothing stands out from its ground")
    is_ink = smooth > max(FAINTEST * level, min(NOISE_LIMIT * noise, MIDDLE * level))
    is_digit = _without_specks(is_ink)
    return ink / np.median(ink[is_digit & (smooth > MIDDLE * level)]), is_digit


def _box(is_digit: Mask) -> tuple[slice, slice]:
    """The rows and columns that a digit takes."""
    rows, columns = ndimage.find_objects(is_digit.astype(np.uint8))[0]
    return rows, columns


def _around(is_digit: Mask) -> tuple[slice, slice]:
    """The rows and columns of a digit with a margin, as far as the picture goes."""
    rows, columns = _box(is_digit)
    margin = math.ceil(MARGIN * max(rows.stop - rows.start, columns.stop - columns.start))
    return (
        slice(max(rows.start - margin, 0), rows.stop + margin),
        slice(max(columns.start - margin, 0), columns.stop + margin),
    )


def _is_light_on_dark(grey: Floats) -> bool:
    """Whether more stands out from the border on the light side than on the dark one."""
    difference = grey.astype(np.float64) - np.median(_border(grey))
    # Cubes: noise is alike on both sides, strokes stand out on one.
    return bool((difference**3).sum() >= 0)


def _smoothed(light: Floats) -> Floats:
    """Blurred by less than a pixel of the field, so that noise does not count as strokes."""
    sigma = 0.3 * (max(light.shape) / FIELD - 1)
    blurred: Floats = ndimage.gaussian_filter(light, sigma) if sigma > 0.3 else light
    return blurred


def _ground(light: Floats) -> Any:
    """What is behind light ink: one level, or where the border is uneven, a surface (h, w)."""
    border = _border(light)
    flat = np.median(border)
    share = np.abs(border - flat) / max(_level(light - flat), 1)
    # Ink at the border is as strong as elsewhere; shadows are somewhere between.
    if ((share > FAINTEST) & (share < MIDDLE)).mean() < UNEVEN:
        return flat
    # An opening takes strokes away and keeps what is wider, shadows that go on beyond the border
    # too; noise makes it too dark everywhere.
    size = math.ceil(max(light.shape) * WIDEST)
    opened = ndimage.grey_opening(np.pad(light, size, mode="edge"), (size, size))
    opened = opened[size:-size, size:-size]
    return opened + np.median(border - _border(opened))


def _border(pixels: Floats) -> Floats:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _spread(values: Floats) -> float:
    """A standard deviation, by medians, which the few pixels of a stroke do not move."""
    return NORMAL * float(np.median(np.abs(values - np.median(values))))


def _level(ink: Floats) -> float:
    """How strong the ink is: the mean of the strongest thousandth of the picture."""
    number = max(4, ink.size // 1000)
    # Sorting all is faster than a partition where most pixels are equal.
    return float(np.sort(ink, axis=None)[-number:].mean())


def _without_specks(is_ink: Mask) -> Mask:
    parts, _ = ndimage.label(is_ink, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    is_kept: Mask = (sizes >= SPECK * sizes.max())[parts] & is_ink
    return is_kept
