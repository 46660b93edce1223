"""The parts of the ink in a picture: several digits side by side or in rows, and specks."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice]

# Shares of the tallest part's height. Lower parts belong to a digit beside or below them, if they
# are that near; in a digit of two tall parts, these overlap or nearly touch.
TALL, NEAR, TOUCHING = 0.5, 0.35, 0.12
# Two parts that share this much of the narrower one's width are above each other.
ABOVE = 0.5
# Digits are at most about as wide as they are high; two that touch each other are wider.
WIDE = 1.6
# A stroke is about this share of a picture wide.
STROKE = 0.04


def digits_of(is_digit: Mask) -> list[Mask]:
    """Split the pixels of digits (h, w) into one mask per digit, in reading order.

    Digits that touch each other stay together. Small parts that belong to none are left out.
    """
    parts, _ = ndimage.label(is_digit, np.ones((3, 3)))
    boxes = ndimage.find_objects(parts)
    height = max(_extent(box)[0] for box in boxes)
    tall = [n for n, box in enumerate(boxes, 1) if _extent(box)[0] >= TALL * height]
    groups: list[list[int]] = []
    for number in tall:
        joined = [
            group
            for group in groups
            if any(_is_one(boxes[number - 1], boxes[n - 1], height) for n in group)
        ]
        groups = [group for group in groups if group not in joined]
        groups.append([number, *(n for group in joined for n in group)])
    for number in set(range(1, len(boxes) + 1)) - set(tall):
        distances = [min(_gap(boxes[number - 1], boxes[n - 1]) for n in g) for g in groups]
        nearest = int(np.argmin(distances))
        if distances[nearest] <= NEAR * height:
            groups[nearest].append(number)
    masks = [np.isin(parts, group) for group in groups]
    return _in_reading_order(masks)


def num_parts(is_digit: Mask) -> int:
    """Return the number of connected parts of the ink (h, w)."""
    _, number = ndimage.label(is_digit, np.ones((3, 3)))
    return int(number)


def describe(is_digit: Mask, picture: tuple[int, ...]) -> str | None:
    """Return what is unusual about the pixels taken for one digit of a picture, or None."""
    found = digits_of(is_digit)
    rows = _rows(found)
    if len(rows) > 1:
        return f"{len(found)} parts in {len(rows)} rows"
    if len(found) > 1:
        return f"{len(found)} parts side by side"
    height, width = _extent(_box(is_digit))
    if max(height, width) < STROKE * max(picture):
        return "smaller than a stroke"
    if width > WIDE * height:
        return "wider than a digit"
    return None


def _in_reading_order(masks: list[Mask]) -> list[Mask]:
    return [mask for row in _rows(masks) for mask in row]


def _rows(masks: list[Mask]) -> list[list[Mask]]:
    """Group masks into rows from top to bottom, each from left to right."""
    rows: list[list[Mask]] = []
    for mask in sorted(masks, key=lambda mask: _middle(_box(mask)[0])):
        top = _box(rows[-1][0])[0] if rows else None
        if top is not None and top.start <= _middle(_box(mask)[0]) < top.stop:
            rows[-1].append(mask)
        else:
            rows.append([mask])
    return [sorted(row, key=lambda mask: _middle(_box(mask)[1])) for row in rows]


def _is_one(one: Box, other: Box, height: int) -> bool:
    """Whether two tall parts are one digit: above each other, and nearly touching."""
    overlap = min(one[1].stop, other[1].stop) - max(one[1].start, other[1].start)
    narrower = min(_extent(one)[1], _extent(other)[1])
    return overlap >= ABOVE * narrower and _gap(one, other) <= TOUCHING * height


def _gap(one: Box, other: Box) -> float:
    """Return the distance of two boxes, 0 if they overlap."""
    gaps = (max(a.start - b.stop, b.start - a.stop, 0) for a, b in zip(one, other, strict=True))
    return math.hypot(*gaps)


def _box(mask: Mask) -> Box:
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    return rows, columns


def _extent(box: Box) -> tuple[int, int]:
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _middle(side: slice) -> float:
    return float(side.start + side.stop) / 2
