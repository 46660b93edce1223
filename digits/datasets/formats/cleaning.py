"""Turn the rows of a file into images and labels: checked, scaled to 0..255, numbered.

A row that fails a check is recorded and skipped, so one bad row does not affect the others.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.advice import setting
from digits.datasets.defects import NUM_SHOWN, Defects, refuse
from digits.datasets.formats.chunks import LabeledChunk, RawChunk
from digits.datasets.formats.depths import REPEATED, Depths, at_depth
from digits.datasets.formats.label_text import as_number, as_text
from digits.spec import ImageShape, Layout, PixelRange
from digits.thresholds import DefectName

Found = Callable[[int], str]
Mask = npt.NDArray[np.bool_]
MISSING, UNKNOWN = -1, -2
ROUNDING = 1e-3
"""How far a fraction may be outside the range, as a share of it: no gray value depends on it.

Numbers of 16 bits are that inexact.
"""


def clean(
    chunks: Iterable[RawChunk],
    layout: Layout,
    pixel_range: PixelRange,
    defects: Defects,
    *,
    first_label: int = 0,
) -> Iterator[LabeledChunk]:
    """Yield the valid rows of each chunk; the others are recorded in `defects`.

    Labels that are numbers count the classes from `first_label`. Raises DefectError if the type or
    shape of the values makes the complete file unusable.
    """
    classes, depths = _Classes(layout, first_label), Depths()
    for chunk in filter(lambda chunk: len(chunk.labels), chunks):
        if pixel_range[1] != REPEATED * 255:
            depths.see(chunk)
            depths.refuse_mixed()
        values = _shaped(chunk, at_depth(chunk, pixel_range), layout.image_shape)
        rows = _Rows(chunk, defects)
        codes = classes.codes(chunk.labels)
        _check_labels(rows, codes, layout, classes.numbers)
        _check_values(rows, values, pixel_range)
        if rows.is_good.any():
            good = np.flatnonzero(rows.is_good)
            is_all = len(good) == len(values)
            yield LabeledChunk(
                images=to_pixels(values if is_all else values[good], pixel_range),
                labels=(codes if is_all else codes[good]).astype(np.uint16),
                split=chunk.split,
                names=chunk.names if is_all else [chunk.names[row] for row in good.tolist()],
            )


def to_pixels(values: npt.NDArray[Any], pixel_range: PixelRange) -> npt.NDArray[np.uint8]:
    """Scale values within `pixel_range` to pixels in 0..255, rounding half to even."""
    low, high = pixel_range
    if (low, high) == (0, 255) and values.dtype.kind in "uib":
        return values.astype(np.uint8)
    scaled = (values.astype(np.float64) - low) * 255 / (high - low)
    pixels: npt.NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return pixels


def room_for_rounding(pixel_range: PixelRange) -> float:
    """Return how far outside the range a fraction may be; whole numbers always differ by more."""
    low, high = pixel_range
    return min(ROUNDING * (high - low), 0.5)


class _Rows:
    """The rows of one chunk: tracks which are valid and records the others as defects."""

    def __init__(self, chunk: RawChunk, defects: Defects) -> None:
        self.chunk = chunk
        self.is_good: Mask = np.ones(len(chunk.labels), bool)
        self._defects = defects

    def fail(self, check: DefectName, is_wrong: Mask, found: Found, expected: str) -> None:
        """Record the rows that newly fail `check`; `found` describes the problem of one row."""
        wrong = np.flatnonzero(is_wrong & self.is_good)
        if len(wrong):
            places = [self.chunk.names[row] for row in wrong[:NUM_SHOWN].tolist()]
            self._defects.add(check, places, found(int(wrong[0])), expected, len(wrong))
            self.is_good[wrong] = False


def _shaped(chunk: RawChunk, values: npt.NDArray[Any], image_shape: ImageShape) -> npt.NDArray[Any]:
    """Return the values as images (n, H, W). Raises DefectError if type or shape does not fit."""
    height, width = image_shape
    place = chunk.names[0]
    if values.dtype.kind not in "biuf":
        refuse("value_type", place, f"has values of type {values.dtype}", "numbers")
    if values.ndim == 2 and values.shape[1] == height * width:
        return values.reshape(-1, height, width)
    if values.ndim != 3 or values.shape[1:] != (height, width):
        found = " x ".join(f"{size:,}" for size in values.shape[1:]) or "1"
        refuse("image_size", place, f"is an image of {found} pixels", f"{height} x {width}")
    return values


class _Classes:
    """The classes of a dataset, which look up labels: by name, then as a number.

    If no class name is a number, numbers count the classes from `first_label`.
    """

    def __init__(self, layout: Layout, first_label: int) -> None:
        self._by_text = {as_text(name): code for code, name in enumerate(layout.class_names)}
        numbers = {text: as_number(text) for text in self._by_text}
        named = {
            number: self._by_text[text] for text, number in numbers.items() if number is not None
        }
        # The numbers that stand for classes; none if classes are named by numbers.
        self.numbers = range(first_label, first_label + (0 if named else layout.num_classes))
        self._by_number = named or {number: code for code, number in enumerate(self.numbers)}

    def codes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the class index of each label; negative for labels that match none."""
        given, places = np.unique(labels, return_inverse=True)
        codes = [self._code(label) for label in given.tolist()]
        return np.array(codes, np.int64)[places.reshape(-1)]

    def _code(self, label: Any) -> int:
        if label != label:  # noqa: PLR0124  (only NaN differs from itself)
            return MISSING
        text = as_text(label)
        if not text:
            return MISSING
        if text in self._by_text:
            return self._by_text[text]
        number = as_number(text)
        return UNKNOWN if number is None else self._by_number.get(number, UNKNOWN)


def _check_labels(
    rows: _Rows, codes: npt.NDArray[np.int64], layout: Layout, numbers: range
) -> None:
    expected = f"one of the {layout.num_classes:,} classes {_listed(layout.class_names)}"
    if numbers:
        expected += (
            f", or {numbers[0]} to {numbers[-1]} (if {layout.class_names[0]} has another number, "
            f"set {setting('first_label', 'NUMBER')})"
        )
    rows.fail("label_missing", codes == MISSING, lambda _: "has no label", expected)
    labels = rows.chunk.labels
    rows.fail(
        "label_unknown",
        codes == UNKNOWN,
        lambda row: f"has the label {str(labels[row])[:40]!r}",
        expected,
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} ... {names[-1]}"


def _check_values(rows: _Rows, values: npt.NDArray[Any], pixel_range: PixelRange) -> None:
    low, high = pixel_range
    expected = f"values from {low:g} to {high:g}"
    flat = values.reshape(len(values), -1)
    if values.dtype == np.uint8 and pixel_range == (0, 255):
        lowest, highest = flat.min(axis=1), flat.max(axis=1)
    else:
        is_number = np.isfinite(flat).all(axis=1)
        rows.fail(
            "not_a_number", ~is_number, lambda _: "has a missing or infinite pixel value", expected
        )
        if not is_number.all():
            flat = np.where(is_number[:, None], flat, low)
        lowest, highest = flat.min(axis=1), flat.max(axis=1)
        if _is_turned(flat, lowest, highest, pixel_range):
            place = f"{rows.chunk.names[0]} and later rows"
            refuse("byte_order", place, "have the wrong byte order", expected)
        room = room_for_rounding(pixel_range) if values.dtype.kind == "f" else 0
        rows.fail(
            "pixel_range",
            (lowest < low - room) | (highest > high + room),
            lambda row: f"has values from {lowest[row]:g} to {highest[row]:g}",
            expected,
        )
    if high > 1 and low >= 0:
        rows.fail(
            "already_scaled",
            _is_scaled(flat, highest),
            lambda row: f"has no value above {highest[row]:g}: its pixels are already scaled",
            f"{expected} (or set {setting('pixel_range', 0, 1)})",
        )


def _is_turned(flat: npt.NDArray[Any], lowest: Any, highest: Any, pixel_range: PixelRange) -> bool:
    """Whether integers are in range only after swapping their bytes."""
    low, high = pixel_range
    if flat.dtype.kind not in "iu" or flat.itemsize == 1:
        return False
    if lowest.min() >= low and highest.max() <= high:
        return False
    turned = flat.byteswap()
    return bool(turned.min() >= low and turned.max() <= high)


def _is_scaled(flat: npt.NDArray[Any], highest: Any) -> Mask:
    """Which rows have pixels in 0..1; pixels of only 0 and 1 count if the entire chunk has them."""
    is_small = highest <= 1
    if is_small.all() and (highest > 0).any() and len(flat) > 1:
        return np.asarray(is_small)
    if flat.dtype.kind != "f":
        return np.zeros(len(flat), bool)
    return np.asarray(is_small & (flat % 1 != 0).any(axis=1))
