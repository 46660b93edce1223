import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from scipy import ndimage

from digits.errors import DataError
from digits.labeling import centering

SHAPE = (28, 28)
# Limit on the mean pixel difference, out of 255 levels, between two images of the same digit:
# anti-aliasing at another size changes the strokes' edges, about a fifth of the pixels.
ALIKE = 6.0


def drawn(width: int = 120, height: int = 150, *, pen: int = 10) -> np.ndarray:
    """A white four on black, off center."""
    picture = Image.new("L", (4 * width, 4 * height))
    draw = ImageDraw.Draw(picture)
    points = [(0.5, 0.2), (0.3, 0.55), (0.75, 0.55)]
    draw.line([(4 * x * width, 4 * y * height) for x, y in points], 255, 4 * pen, "curve")
    stem = [(0.62, 0.35), (0.6, 0.85)]
    draw.line([(4 * x * width, 4 * y * height) for x, y in stem], 255, 4 * pen)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def center(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return centering.center(picture, shape).seen


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def extent(seen: np.ndarray) -> tuple[int, int]:
    rows, columns = ndimage.find_objects((seen > 0).astype(int))[0]
    return rows.stop - rows.start, columns.stop - columns.start


PLAIN = drawn()
SEEN = center(PLAIN, SHAPE)


def test_a_digit_fits_into_twenty_pixels_and_keeps_its_aspect_ratio() -> None:
    height, width = extent(PLAIN)

    assert extent(SEEN)[0] == 20
    assert extent(SEEN)[1] == pytest.approx(20 * width / height, abs=1)


def test_a_wide_digit_is_fitted_by_its_width() -> None:
    assert extent(center(np.rot90(PLAIN), SHAPE))[1] == 20


def test_the_center_of_mass_is_the_center_of_the_field() -> None:
    assert ndimage.center_of_mass(SEEN) == pytest.approx((14, 14), abs=0.5)


def test_ink_is_white_on_black_and_reaches_the_full_level() -> None:
    assert SEEN.dtype == np.uint8
    assert SEEN.max() == 255
    assert (SEEN == 0).mean() > 0.5


RANDOM = np.random.default_rng(0)
SHADOW = 110 / (1 + np.exp(-np.linspace(-10, 6, PLAIN.shape[1])))
LIGHT = PLAIN.astype(float)
BLOTS = np.zeros_like(LIGHT)
BLOTS[8:12, 10:14] = BLOTS[140:144, 100:104] = BLOTS[70:74, 12:16] = 255
VARIANTS = {
    "dark on light": 255 - LIGHT,
    "gray on gray": 160 - 0.3 * LIGHT,
    "faint": 20 + 0.1 * LIGHT,
    "larger": np.asarray(Image.fromarray(PLAIN).resize((240, 300), Image.Resampling.BICUBIC)),
    "moved": np.roll(PLAIN, (20, -15), (0, 1)),
    "in a wide image": np.pad(PLAIN, ((100, 50), (200, 300))),
    "cropped to its edge": PLAIN[ndimage.find_objects((PLAIN > 0).astype(int))[0]],
    "dark, cropped": 255 - PLAIN[ndimage.find_objects((PLAIN > 0).astype(int))[0]],
    "noisy": 60 + 0.5 * LIGHT + RANDOM.normal(0, 45, LIGHT.shape),
    "dark on noise": 200 - 0.6 * LIGHT + RANDOM.normal(0, 30, LIGHT.shape),
    "half in shadow": 240 - 0.6 * LIGHT - SHADOW,
    "shadow from the other side": 240 - 0.6 * LIGHT - SHADOW[::-1],
    "specks": np.where(RANDOM.random(LIGHT.shape) < 0.0005, 255, LIGHT),
    "blots": np.maximum(LIGHT, BLOTS),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_digit_looks_the_same_however_it_was_drawn(variant: str) -> None:
    picture = VARIANTS[variant].clip(0, 255).round().astype(np.uint8)

    assert apart(center(picture, SHAPE), SEEN) < ALIKE


def test_another_digit_looks_different() -> None:
    assert apart(center(np.flip(PLAIN, 0), SHAPE), SEEN) > 3 * ALIKE


def test_a_small_digit_is_enlarged() -> None:
    small = np.asarray(Image.fromarray(PLAIN).resize((16, 20), Image.Resampling.BOX))

    assert extent(center(small, SHAPE))[0] == 20


def test_a_centered_digit_hardly_changes() -> None:
    assert apart(center(SEEN, SHAPE), SEEN) < ALIKE


@pytest.mark.parametrize("shape", [(12, 12), (8, 8), (64, 64), (20, 32)])
def test_digits_fill_other_fields_in_the_same_proportion(shape: tuple[int, int]) -> None:
    seen = center(PLAIN, shape)

    assert seen.shape == shape
    height, width = extent(seen)
    # The height limits the digit unless the field is much taller than wide.
    assert height == round(shape[0] * 20 / 28)
    assert width <= round(shape[1] * 20 / 28)


@pytest.mark.parametrize(
    "blank",
    [
        np.zeros((50, 50)),
        np.full((50, 50), 200),
        128 + np.random.default_rng(1).normal(0, 10, (80, 80)),
        np.linspace(100, 180, 80)[None, :].repeat(80, 0),
    ],
    ids=["black", "gray", "noise", "gradient"],
)
def test_an_image_of_nothing_is_rejected(blank: np.ndarray) -> None:
    with pytest.raises(DataError, match="contains no digit"):
        center(blank.astype(np.uint8), SHAPE)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)), st.data())
def test_any_image_is_centered_or_rejected(picture: np.ndarray, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(8, 64), st.integers(8, 64)))

    try:
        seen = center(picture, shape)
    except DataError:
        return
    assert seen.shape == shape
    assert seen.dtype == np.uint8
    assert seen.max() == 255
