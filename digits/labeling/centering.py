"""Preprocess an image of one digit as MNIST's authors did theirs.

Their procedure (http://yann.lecun.com/exdb/mnist/): scale the digit with an anti-aliasing filter to
fit into 20x20 pixels, keeping its aspect ratio, and place it in a 28x28 field so that its center of
mass is at the field's center. Their originals were black and white; in other images the ink must
first be separated from the background.
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
# Shares of the ink's level: fainter pixels are background, as far as the background noise allows.
FAINTEST, MIDDLE = 0.12, 0.5
# The border is uneven if this share of it is neither background nor ink.
UNEVEN = 0.1
# No stroke is wider than this share of its image.
WIDEST = 0.5
# A stroke stands out from the background noise by this many standard deviations.
NOISE_LIMIT = 5.0
# Margin for the second, closer look at a digit, as a share of its larger side.
MARGIN = 0.3
# With less contrast than this, out of 255 levels, nothing was drawn.
LEAST_CONTRAST = 12
# Specks smaller than this share of the digit's largest stroke are dropped.
SPECK = 0.1
# Ratio of a normal distribution's standard deviation to its median absolute deviation.
NORMAL = 1.4826


def center(grey: Grey, shape: ImageShape) -> Grey:
    """Return the digit of a gray image (h, w), light on black, centered in a field (H, W), uint8.

    Raises DataError if nothing stands out from the background.
    """
    return place(fit(cut_out(grey), shape), shape)


def cut_out(grey: Grey) -> Floats:
    """Return the digit alone: ink in 0..1 on a background of 0, cropped to the ink."""
    light = grey.astype(np.float32)
    if not _is_light_on_dark(light):
        light = 255 - light
    ink, is_digit = _separate(light)
    near = _around(is_digit)
    if ink[near].shape != ink.shape:
        # A digit found in a large image is separated again at close range, which is sharper.
        ink, is_digit = _separate(light[near])
    digit: Floats = np.where(is_digit, ink, 0)[_box(is_digit)].clip(0, 1)
    return digit


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


def _separate(light: Floats) -> tuple[Floats, Mask]:
    """Return the ink of a light digit (h, w), about 1 in its strokes, and the digit's mask."""
    smooth = _smoothed(light)
    ground = _ground(smooth)
    ink, smooth = light - ground, smooth - ground
    level, noise = _level(smooth), _spread(_border(smooth))
    if level < max(LEAST_CONTRAST, NOISE_LIMIT * noise):
        raise DataError("contains no digit: nothing stands out from the background")
    is_ink = smooth > max(FAINTEST * level, min(NOISE_LIMIT * noise, MIDDLE * level))
    is_digit = _without_specks(is_ink)
    return ink / np.median(ink[is_digit & (smooth > MIDDLE * level)]), is_digit


def _box(is_digit: Mask) -> tuple[slice, slice]:
    rows, columns = ndimage.find_objects(is_digit.astype(np.uint8))[0]
    return rows, columns


def _around(is_digit: Mask) -> tuple[slice, slice]:
    """Return the rows and columns of a digit plus a margin, clipped to the image."""
    rows, columns = _box(is_digit)
    margin = math.ceil(MARGIN * max(rows.stop - rows.start, columns.stop - columns.start))
    return (
        slice(max(rows.start - margin, 0), rows.stop + margin),
        slice(max(columns.start - margin, 0), columns.stop + margin),
    )


def _is_light_on_dark(grey: Floats) -> bool:
    """Return whether more stands out from the border on the light side than on the dark side."""
    difference = grey.astype(np.float64) - np.median(_border(grey))
    # Cubed: noise is symmetric, strokes stand out on one side.
    return bool((difference**3).sum() >= 0)


def _smoothed(light: Floats) -> Floats:
    """Blur by less than one pixel of the field, so that noise does not count as strokes."""
    sigma = 0.3 * (max(light.shape) / FIELD - 1)
    blurred: Floats = ndimage.gaussian_filter(light, sigma) if sigma > 0.3 else light
    return blurred


def _ground(light: Floats) -> Any:
    """Return the background of light ink: one level, or (h, w) if the border is uneven."""
    border = _border(light)
    flat = np.median(border)
    share = np.abs(border - flat) / max(_level(light - flat), 1)
    # Ink at the border is as strong as elsewhere; shadows are in between.
    if ((share > FAINTEST) & (share < MIDDLE)).mean() < UNEVEN:
        return flat
    # An opening removes strokes and keeps anything wider, including shadows that continue beyond
    # the border. Noise makes the result too dark everywhere, which the last line corrects.
    size = math.ceil(max(light.shape) * WIDEST)
    opened = ndimage.grey_opening(np.pad(light, size, mode="edge"), (size, size))
    opened = opened[size:-size, size:-size]
    return opened + np.median(border - _border(opened))


def _border(pixels: Floats) -> Floats:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _spread(values: Floats) -> float:
    """Return a standard deviation based on medians, which a stroke's few pixels do not affect."""
    return NORMAL * float(np.median(np.abs(values - np.median(values))))


def _level(ink: Floats) -> float:
    """Return the ink's strength: the mean of the strongest thousandth of the image's pixels."""
    number = max(4, ink.size // 1000)
    # A full sort is faster than a partition if most pixels are equal.
    return float(np.sort(ink, axis=None)[-number:].mean())


def _without_specks(is_ink: Mask) -> Mask:
    parts, _ = ndimage.label(is_ink, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    is_kept: Mask = (sizes >= SPECK * sizes.max())[parts] & is_ink
    return is_kept
