"""Separate the ink of a digit from its background, and from what surrounds it.

A plain picture has the same background along its whole border. In others the border shows a frame,
the lines of a grid, the edge of the page or of a scan, or a shadow; there, ink is what is narrower
than its local background, and whatever touches the border or encloses the digit is left out.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from digits.errors import DataError
from digits.labeling.image_files import Grey
from digits.labeling.parts import digits_of

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Parts = npt.NDArray[np.int32]
Box = tuple[slice, slice]

# Noise is measured on the scale of the dataset's images: 28 pixels a side.
FIELD = 28
# Shares of the ink's level: fainter pixels are background, as far as the background noise allows.
FAINTEST, MIDDLE = 0.12, 0.5
# The same for a local background, which is less sure.
FAINT = 0.18
# Strong lines hide faint ink, and strong shadows the lines: each round leaves one of them out.
ROUNDS = 3
# The border is plain if at most this share of it differs from its median.
UNEVEN = 0.04
# A local background is what remains of strokes no wider than this share of the image's sides.
WIDEST = 0.25
# Nor than this share of the smaller side.
WIDEST_LOW = 0.4
# A stroke stands out from the background noise by this many standard deviations.
NOISE_LIMIT = 5.0
# In an image of fewer pixels, ink takes most of the border, which then tells nothing about noise.
NARROWEST = 8
# Margin for the second, closer look at a digit, as a share of its larger side.
MARGIN = 0.3
# With less contrast than this, out of 255 levels, nothing was drawn.
LEAST_CONTRAST = 12
# Specks smaller than this share of the digit's largest stroke are dropped.
SPECK = 0.1
# Ratio of a normal distribution's standard deviation to its median absolute deviation.
NORMAL = 1.4826
# An area of ink that fills more of its bounding box is no digit, unless it is as narrow as a one.
SOLID, NARROW = 0.64, 0.45
# A frame fills more than this share of its bounding box once its holes are filled; a zero, less.
RECTANGLE = 0.88
# An empty frame reaches this far across the image; a zero that fills it is not that rectangular.
SPAN = 0.75
# What is at least this share as high as what encloses it is a digit within a frame, and no dot.
ENCLOSED = 0.3
# Lines along the border cover this share of a side, and lie within this share of the image from it
# but for a small rest.
ALONG, BESIDE, REST = 0.92, 0.18, 0.25
# A digit that was cut out to its edges covers less than this share of the border.
CROWDED = 0.85
# And reaches this far across the image.
FILLS = 0.85
# The edges of ink are narrower than this share of a digit's larger side; those of shadows are not.
SOFT = 0.2
# Nor than this share of the image's.
SOFTEST = 0.065
# Pieces of a frame are at least this long, and but for this share near the border.
LONG, INNER = 0.15, 0.1
# In a local background, less than this share of the image's larger side is a speck.
SMALLEST = 0.08
# A page fills more than this share of its bounding box, digit or not.
PAGE = 0.74
# A digit that touches the border is told from specks within by being this much larger.
LARGER = 4
# And by reaching this far across the image.
CUT_OFF = 0.25

NOTHING = "contains no digit: nothing stands out from the background"


@dataclass(frozen=True)
class Ink:
    """The ink within a box of a picture, about 1 in its strokes, and the pixels of digits."""

    strength: Floats
    is_digit: Mask
    box: Box


def separate(grey: Grey) -> Ink:
    """Return the ink of a gray picture (h, w) that shows a digit.

    Raises DataError if nothing stands out from the background but frames, lines and shadows.
    """
    light = grey.astype(np.float32)
    found, is_sure = _plain(light)
    if found is None or not is_sure:
        return _local(light) or found or _refused()
    return found


def box_of(is_digit: Mask) -> Box:
    """Return the rows and columns of a mask's pixels."""
    rows, columns = ndimage.find_objects(is_digit.astype(np.uint8))[0]
    return rows, columns


def _plain(light: Floats) -> tuple[Ink | None, bool]:
    """Separate ink from a background that is the border's median, and return whether it surely is.

    Returns None if it is not.
    """
    is_even = _is_even(light)
    if not _is_light_on_dark(light):
        light = 255 - light
    try:
        ink = _flat(light)
    except DataError:
        return None, False
    box = box_of(ink.is_digit)
    parts, boxes = _parts(ink.is_digit)
    # A page is large.
    is_page_sized = all(
        side.stop - side.start > SPAN * whole for side, whole in zip(box, light.shape, strict=True)
    )
    is_solid = _spans(box, light.shape, ENCLOSED) and _is_solid(ink.is_digit)
    is_page = is_solid and (_is_faint(ink) or (is_page_sized and not _is_light_locally(light)))
    if _enclosing(parts, boxes):
        return None, False
    smooth, is_ink = _smoothed(light), ink.is_digit[box]
    touching = set(_border(parts).tolist()) - {0}
    if touching or not is_even:
        is_cut_out = _is_cut_out(parts, boxes, touching, is_even=is_even)
        is_full = _is_solid(ink.is_digit) and ink.is_digit[box].mean() > PAGE
        if is_full or not is_cut_out or _is_soft(smooth, smooth - smooth.min(), box, is_ink):
            return None, False
        return ink, not _is_faint(ink)
    if is_page or _is_soft(smooth, smooth - smooth.min(), box, is_ink):
        return None, False
    near = _around(ink.is_digit)
    # A digit found in a large image is separated again at close range, which is sharper.
    if ink.strength[near].shape != light.shape:
        ink = replace(_flat(light[near]), box=near)
    return ink, True


def _is_cut_out(parts: Parts, boxes: list[Box], touching: set[int], *, is_even: bool) -> bool:
    """Whether a digit was cut out along its edges, or touches the border of an even picture."""
    sizes = np.bincount(parts.ravel())
    if not touching:
        return False
    is_one = is_even and len(digits_of(parts > 0)) == 1
    if sizes[1:].argmax() + 1 not in touching and not is_one:
        return False
    if any(_is_around(parts == number) for number in touching):
        return False
    if is_even:
        return not any(_is_beside(boxes[n - 1], parts == n) for n in touching)
    reach = [side.stop - side.start for side in box_of(parts > 0)]
    fills = all(
        part >= min(FILLS * whole, whole - 2)
        for part, whole in zip(reach, parts.shape, strict=True)
    )
    return fills and bool((_border(parts) > 0).mean() < CROWDED)


def _is_faint(ink: Ink) -> bool:
    """Whether most of the ink is faint: a page on a darker ground, and stronger ink on it."""
    return bool((ink.strength[ink.is_digit] > MIDDLE).mean() < MIDDLE)


def _flat(light: Floats) -> Ink:
    smooth = _smoothed(light)
    border = _border(smooth)
    ground = np.median(border)
    # Measured below the background only: ink may touch the border.
    noise = _spread_below(border, ground) if min(light.shape) >= NARROWEST else 0
    return _threshold(light - ground, smooth - ground, noise)


def _threshold(ink: Floats, smooth: Floats, noise: float) -> Ink:
    level = _level(smooth)
    if level < max(LEAST_CONTRAST, NOISE_LIMIT * noise):
        raise DataError(NOTHING)
    is_ink = smooth > max(FAINTEST * level, min(NOISE_LIMIT * noise, MIDDLE * level))
    is_digit = _without_specks(is_ink)
    strength = ink / np.median(ink[is_digit & (smooth > MIDDLE * level)])
    return Ink(strength, is_digit, np.s_[: ink.shape[0], : ink.shape[1]])


def _refused() -> NoReturn:
    raise DataError(NOTHING)


def _local(light: Floats) -> Ink | None:
    """Separate ink from a local background, and from what touches the border or encloses it."""
    if not _is_light_locally(light):
        light = 255 - light
    ink, is_all_soft = _candidate(light)
    if ink is None and is_all_soft:
        # A reflection outweighs the thin ink of the other polarity.
        ink, _ = _candidate(255 - light)
    return ink


def _is_around(is_part: Mask) -> bool:
    """Whether a part lies along sides of the image that it covers, as lines and a table do."""
    depth, width = (max(1, round(side * BESIDE)) for side in is_part.shape)
    rest = is_part.copy()
    for band, axis in (
        (np.s_[:depth], 0), (np.s_[-depth:], 0), (np.s_[:, :width], 1), (np.s_[:, -width:], 1)
    ):  # fmt: skip
        if is_part[band].any(axis=axis).mean() > ALONG:
            rest[band] = False
    return bool(rest.sum() < REST * is_part.sum())


def _is_beside(box: Box, is_part: Mask) -> bool:
    """Whether a long part stays near the border, as pieces of a frame and of a page's edge do."""
    if not _spans(box, is_part.shape, LONG):
        return False
    inner = tuple(slice(round(side * BESIDE), round(side * (1 - BESIDE))) for side in is_part.shape)
    return bool(is_part[inner].sum() < INNER * is_part.sum())


def _is_soft(smooth: Floats, lifted: Floats, box: Box, is_part: Mask) -> bool:
    """Whether a part (h, w) has no edges, as a shadow and a reflection have none."""
    if min(is_part.shape) < 2 or not _spans(box, smooth.shape, LONG):
        return False
    slope = np.quantile(np.hypot(*np.gradient(smooth[box]))[is_part], 0.9)
    low, high = np.quantile(smooth[box], (0.02, 0.98))
    limit = min(SOFT * max(is_part.shape), SOFTEST * max(smooth.shape))
    # Ink may lie across a shadow's edge, which is much higher than the ink is above its background.
    height = min(high - low, 1.6 * np.quantile(lifted[box][is_part], 0.98))
    return bool(height > max(limit, 3) * slope)


def _candidate(light: Floats) -> tuple[Ink | None, bool]:
    """Return the digit of a picture with light ink, if any, and whether all others were soft."""
    smooth = _smoothed(light)
    ground = _opened(smooth)
    lifted = smooth - ground
    noise = _spread(lifted)
    is_left_out, is_all_soft = np.zeros(light.shape, bool), True
    for _ in range(ROUNDS):
        rest = np.where(is_left_out, 0, lifted)
        level = _level(rest)
        if level < max(LEAST_CONTRAST, NOISE_LIMIT * noise):
            return None, is_all_soft
        is_ink = rest > max(FAINT * level, min(NOISE_LIMIT * noise, MIDDLE * level))
        is_kept, is_soft = _digits_only(is_ink, smooth, lifted)
        is_all_soft &= is_soft
        dropped = is_ink & ~is_kept
        if not dropped.any():
            break
        is_left_out |= _widened(dropped) & ~is_kept
    if not is_kept.any():
        return None, is_all_soft
    is_digit = _without_specks(is_kept)
    ink = light - _interpolated(light, ~_widened(is_ink | is_left_out), ground)
    strong = ink[is_digit]
    peak = np.quantile(strong, 0.98)
    if min(peak, np.quantile(lifted[is_digit], 0.98)) < LEAST_CONTRAST:
        return None, is_all_soft
    near = _around(is_digit)
    strength = ink[near] / np.median(strong[strong > MIDDLE * peak])
    return Ink(strength, is_digit[near], near), is_all_soft


def _widened(is_ink: Mask) -> Mask:
    widened: Mask = ndimage.binary_dilation(is_ink, np.ones((3, 3)), iterations=2)
    return widened


def _interpolated(light: Floats, is_ground: Mask, otherwise: Floats) -> Floats:
    sigma = max(light.shape) / 16
    weight = ndimage.gaussian_filter(is_ground.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(is_ground, light, 0), sigma)
    ground: Floats = np.where(weight > 0.02, total / np.maximum(weight, 0.02), otherwise)
    return ground


def _digits_only(is_ink: Mask, smooth: Floats, lifted: Floats) -> tuple[Mask, bool]:
    """Keep the parts that may be digits, and return whether the others are soft.

    Dropped are specks, parts that touch the border or enclose others, and empty frames.
    """
    parts, boxes = _parts(is_ink)
    shape = is_ink.shape
    # Noise leaves many specks; only the others are looked at.
    numbers = [n for n, box in enumerate(boxes, 1) if _spans(box, shape, SMALLEST)]
    pieces = {n: parts[boxes[n - 1]] == n for n in numbers}
    soft = {n for n, piece in pieces.items() if _is_soft(smooth, lifted, boxes[n - 1], piece)}
    beside = {n for n in numbers if _is_beside(boxes[n - 1], parts == n)}
    touching = set(_border(parts).tolist()).intersection(numbers) - soft
    dropped = soft | beside | touching | set(_enclosing(parts, boxes))
    kept = [n for n in numbers if n not in dropped]
    sizes = {n: piece.sum() for n, piece in pieces.items()}
    largest = max((sizes[n] for n in kept), default=0)
    kept += [
        n
        for n in touching - beside
        if sizes[n] > LARGER * largest
        and _spans(boxes[n - 1], shape, CUT_OFF)
        and not _is_around(parts == n)
        and not _is_soft(smooth, smooth - smooth.min(), boxes[n - 1], pieces[n])
    ]
    return np.isin(parts, kept), soft.issuperset(numbers) or bool(kept)


def _spans(box: Box, shape: tuple[int, ...], share: float) -> bool:
    """Whether a part reaches across this share of the image, or further."""
    return any(
        side.stop - side.start > share * whole for side, whole in zip(box, shape, strict=True)
    )


def _parts(is_ink: Mask) -> tuple[npt.NDArray[np.int32], list[Box]]:
    parts, _ = ndimage.label(is_ink, np.ones((3, 3)))
    return parts, ndimage.find_objects(parts)


def _enclosing(parts: npt.NDArray[np.int32], boxes: list[Box]) -> list[int]:
    """Return the parts that enclose a digit, and those that are an empty frame."""
    enclosing = []
    for number, box in enumerate(boxes, 1):
        height, width = (side.stop - side.start for side in box)
        if height < parts.shape[0] * ENCLOSED or width < parts.shape[1] * ENCLOSED:
            continue
        is_part = parts[box] == number
        filled = ndimage.binary_fill_holes(is_part)
        inside = filled & ~is_part
        if inside.sum() < 0.2 * is_part.size:
            continue
        within = parts[box] * inside
        heights = [
            other[0].stop - other[0].start for other in ndimage.find_objects(within) if other
        ]
        spans = height > SPAN * parts.shape[0] and width > SPAN * parts.shape[1]
        is_frame = spans and filled.mean() > RECTANGLE
        if is_frame or max(heights, default=0) > ENCLOSED * height:
            enclosing.append(number)
    return enclosing


def _is_solid(is_digit: Mask) -> bool:
    """Whether the ink fills an area, as a page within a frame does, and is no stroke."""
    box = box_of(is_digit)
    pixels = is_digit[box]
    return bool(pixels.mean() > SOLID and pixels.shape[1] > NARROW * pixels.shape[0])


def _opened(light: Floats) -> Floats:
    """Return the local background of light ink: an opening keeps what is wider than strokes."""
    size = max(3, math.ceil(min(max(light.shape) * WIDEST, min(light.shape) * WIDEST_LOW)))
    opened = ndimage.grey_opening(np.pad(light, size, mode="symmetric"), (size, size))
    opened = opened[size:-size, size:-size]
    # Noise makes an opening too dark everywhere.
    ground: Floats = opened + np.median(light - opened)
    return ground


def _is_even(light: Floats) -> bool:
    """Whether the border is all background: one level, but for noise and a few pixels of ink."""
    sides = (light[0], light[-1], light[:, 0], light[:, -1])
    # Averaged along the border, so that noise does not count.
    even = [ndimage.gaussian_filter1d(side, len(side) / 12, mode="nearest") for side in sides]
    border = np.concatenate(even)
    flat = np.median(border)
    level = _level(np.abs(_smoothed(light) - flat))
    return bool((np.abs(border - flat) > FAINTEST * level).mean() <= UNEVEN)


def _around(is_digit: Mask) -> Box:
    """Return the rows and columns of a digit plus a margin, clipped to the image."""
    rows, columns = box_of(is_digit)
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


def _is_light_locally(light: Floats) -> bool:
    """Return whether more stands out from its surroundings on the light side than on the dark."""
    factor = max(1, math.ceil(max(light.shape) / 56))
    small = np.asarray(Image.fromarray(light).reduce(factor))
    window = 2 * math.ceil(max(small.shape) * 0.16) + 1
    difference = small - ndimage.median_filter(small, window, mode="reflect")
    # Ink has edges, reflections and shadows have none.
    slope = np.hypot(*(ndimage.sobel(small.astype(np.float64), axis) for axis in (0, 1)))
    return bool((difference**3 * slope**2).sum() >= 0)


def _smoothed(light: Floats) -> Floats:
    """Blur by less than one pixel of the field, so that noise does not count as strokes."""
    sigma = 0.3 * (max(light.shape) / FIELD - 1)
    blurred: Floats = ndimage.gaussian_filter(light, sigma) if sigma > 0.3 else light
    return blurred


def _border(pixels: Any) -> Any:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _spread(values: Floats) -> float:
    """Return a standard deviation based on medians, which a stroke's few pixels do not affect."""
    return NORMAL * float(np.median(np.abs(values - np.median(values))))


def _spread_below(values: Floats, middle: float) -> float:
    return NORMAL * float(np.median(middle - values[values <= middle]))


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
