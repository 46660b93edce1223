"""From rows as a file has them to images and labels: checked, scaled to 0..255, numbered.

A row that fails a check is noted and left out, so that one bad row says no more than what it is.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.defects import NUM_SHOWN, Defects, refuse
from digits.datasets.formats.chunks import LabeledChunk, RawChunk
from digits.spec import ImageShape, Layout, PixelRange
from digits.thresholds import DefectName

Found = Callable[[int], str]
Mask = npt.NDArray[np.bool_]
MISSING, UNKNOWN = -1, -2


def clean(
    batches: Iterable[RawChunk], layout: Layout, pixel_range: PixelRange, defects: Defects
) -> Iterator[LabeledChunk]:
    """The good rows of each batch; the others go to `defects`.

    Raises DefectError where values are of a kind or shape that no row of the file can have.
    """
    names = _numbered(layout)
    for batch in filter(lambda batch: len(batch.labels), batches):
        values = _shaped(batch, layout.image_shape)
        rows = _Rows(batch, defects)
        codes = _codes(batch.labels, names, layout.num_classes)
        _check_labels(rows, codes, layout)
        _check_values(rows, values, pixel_range)
        if rows.is_good.any():
            good = np.flatnonzero(rows.is_good)
            is_all = len(good) == len(values)
            yield LabeledChunk(
                images=to_pixels(values if is_all else values[good], pixel_range),
                labels=(codes if is_all else codes[good]).astype(np.uint16),
                split=batch.split,
                names=batch.names if is_all else [batch.names[row] for row in good.tolist()],
            )


def to_pixels(values: npt.NDArray[Any], pixel_range: PixelRange) -> npt.NDArray[np.uint8]:
    """Values within `pixel_range` as pixels in 0..255, rounded to the nearest, halves to even."""
    low, high = pixel_range
    if (low, high) == (0, 255) and values.dtype.kind in "uib":
        return values.astype(np.uint8)
    scaled = (values.astype(np.float64) - low) * 255 / (high - low)
    return np.rint(scaled).astype(np.uint8)


class _Rows:
    """The rows of one batch: which are still good, and where to note the others."""

    def __init__(self, batch: RawChunk, defects: Defects) -> None:
        self.batch = batch
        self.is_good: Mask = np.ones(len(batch.labels), bool)
        self._defects = defects

    def fail(self, check: DefectName, is_wrong: Mask, found: Found, expected: str) -> None:
        """Note the rows that are wrong and were good so far; `found` says it of one of them."""
        wrong = np.flatnonzero(is_wrong & self.is_good)
        if len(wrong):
            places = [self.batch.names[row] for row in wrong[:NUM_SHOWN].tolist()]
            self._defects.add(check, places, found(int(wrong[0])), expected, len(wrong))
            self.is_good[wrong] = False


def _shaped(batch: RawChunk, image_shape: ImageShape) -> npt.NDArray[Any]:
    """The values as images. Raises DefectError where they cannot be."""
    values, (height, width) = batch.values, image_shape
    place = batch.names[0]
    if values.dtype.kind not in "biuf":
        refuse("value_type", place, f"holds values of type {values.dtype}", "numbers")
    if values.ndim == 2 and values.shape[1] == height * width:
        return values.reshape(-1, height, width)
    if values.ndim != 3 or values.shape[1:] != (height, width):
        found = " x ".join(f"{size:,}" for size in values.shape[1:]) or "1"
        refuse("image_size", place, f"is an image of {found} pixels", f"{height} x {width}")
    return values


def _numbered(layout: Layout) -> dict[str, int]:
    return {name: number for number, name in enumerate(layout.class_names)}


def _codes(
    labels: npt.NDArray[Any], names: dict[str, int], num_classes: int
) -> npt.NDArray[np.int64]:
    """The class of each label: the one of this name, else of this number; negative for neither.

    Where all names are numbers, a number is a name.
    """
    are_numbers = all(name.isdecimal() for name in names)
    given, places = np.unique(labels, return_inverse=True)
    numbers = range(0) if are_numbers else range(num_classes)
    codes = [_code(label, names, numbers) for label in given.tolist()]
    return np.array(codes, np.int64)[places.reshape(-1)]


def _code(label: Any, names: dict[str, int], numbers: range) -> int:
    if isinstance(label, str):
        text = label.strip()
        if not text:
            return MISSING
        if text in names:
            return names[text]
        try:
            label = float(text)
        except ValueError:
            return UNKNOWN
    if label != label:  # noqa: PLR0124  (the one value that differs from itself is NaN)
        return MISSING
    if not float(label).is_integer():
        return UNKNOWN
    number = int(label)
    return names.get(str(number), number if number in numbers else UNKNOWN)


def _check_labels(rows: _Rows, codes: npt.NDArray[np.int64], layout: Layout) -> None:
    expected = f"one of the {layout.num_classes:,} classes {_listed(layout.class_names)}"
    rows.fail("label_missing", codes == MISSING, lambda _: "has no label", expected)
    labels = rows.batch.labels
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
        rows.fail("not_a_number", ~is_number, lambda _: "has a pixel without a value", expected)
        if not is_number.all():
            flat = np.where(is_number[:, None], flat, low)
        lowest, highest = flat.min(axis=1), flat.max(axis=1)
        if _is_turned(flat, lowest, highest, pixel_range):
            place = f"{rows.batch.names[0]} and what follows"
            refuse("byte_order", place, "has its bytes in the wrong order", expected)
        rows.fail(
            "pixel_range",
            (lowest < low) | (highest > high),
            lambda row: f"has values from {lowest[row]:g} to {highest[row]:g}",
            expected,
        )
    if high > 1 and low >= 0:
        rows.fail(
            "already_scaled",
            _is_scaled(flat, highest),
            lambda row: f"has no value above {highest[row]:g}: its pixels were scaled already",
            f"{expected} (or pixel_range = [0, 1] in the spec)",
        )


def _is_turned(flat: npt.NDArray[Any], lowest: Any, highest: Any, pixel_range: PixelRange) -> bool:
    """Whether whole numbers are in range only once their bytes are read the other way round."""
    low, high = pixel_range
    if flat.dtype.kind not in "iu" or flat.itemsize == 1:
        return False
    if lowest.min() >= low and highest.max() <= high:
        return False
    turned = flat.byteswap()
    return bool(turned.min() >= low and turned.max() <= high)


def _is_scaled(flat: npt.NDArray[Any], highest: Any) -> Mask:
    """Which rows hold pixels in 0..1: fractions tell one image, 0 and 1 alone a whole batch."""
    is_small = highest <= 1
    if is_small.all() and (highest > 0).any() and len(flat) > 1:
        return np.asarray(is_small)
    if flat.dtype.kind != "f":
        return np.zeros(len(flat), bool)
    return np.asarray(is_small & (flat % 1 != 0).any(axis=1))
