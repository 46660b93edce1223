"""Several digits in one picture: how they are split, ordered and described."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from digits.labeling.centering import center, center_each

SHAPE = (28, 28)
FONT = ImageFont.load_default(60)


def written(text: str, size: tuple[int, int] = (300, 120)) -> np.ndarray:
    """Dark text on a light page, in the middle; the letters are apart."""
    page = Image.new("L", size, 240)
    spaced = "\n".join(" ".join(line) for line in text.split("\n"))
    ImageDraw.Draw(page).text((size[0] / 2, size[1] / 2), spaced, 20, FONT, "mm", spacing=20)
    return np.asarray(page)


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two fields differ by less than strokes do, at the best of nine positions."""
    shifted = (np.roll(one.astype(int), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1))
    return min(float(np.abs(moved - other).mean()) for moved in shifted) < 10


def seen_alone(digit: str) -> np.ndarray:
    return center(written(digit, (90, 120)), SHAPE).seen


@pytest.mark.parametrize("text", ["12", "90210", "45\n78", "4"])
def test_each_digit_is_seen_in_reading_order_as_if_alone(text: str) -> None:
    found = center_each(written(text, (320, 240)), SHAPE)

    digits = text.replace("\n", "")
    assert len(found) == len(digits)
    for one, digit in zip(found, digits, strict=True):
        assert alike(one.seen, seen_alone(digit))
        assert one.note is None


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("7", None),
        ("12", "2 parts side by side"),
        ("301", "3 parts side by side"),
        ("45\n78", "4 parts in 2 rows"),
    ],
)
def test_several_digits_are_noted(text: str, note: str | None) -> None:
    assert center(written(text, (320, 240)), SHAPE).note == note


def test_digits_that_touch_each_other_are_noted() -> None:
    page = np.asarray(written("00", (120, 120))).copy()
    page[56:64, 20:100] = 20

    assert center(page, SHAPE).note == "wider than a digit"


def test_a_speck_is_noted() -> None:
    page = np.full((200, 200), 240, np.uint8)
    page[100:105, 90:95] = 20

    assert center(page, SHAPE).note == "smaller than a stroke"


def test_a_digit_of_separate_strokes_is_one_digit() -> None:
    page = np.full((120, 100), 240, np.uint8)
    page[20:28, 38:75] = 20  # the five's upper stroke, apart from the rest
    page[32:62, 30:38] = page[56:64, 30:68] = page[62:95, 62:70] = page[90:98, 28:68] = 20

    assert len(center_each(page, SHAPE)) == 1
    assert center(page, SHAPE).note is None
