"""A digit is separated from its surroundings: the same digit is seen as in a plain picture."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from digits.errors import DataError
from digits.labeling.centering import center

SIDE, SHAPE = 120, (28, 28)
# Limit on the mean pixel difference, out of 255 levels; another digit differs by three times that.
ALIKE = 7.0
Y, X = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)


def drawn(shows_digit: bool = True) -> np.ndarray:
    """Coverage by ink, 0..1: a five in the middle, or nothing."""
    fine = Image.new("L", (4 * SIDE, 4 * SIDE))
    if shows_digit:
        pen = ImageDraw.Draw(fine)
        five = [(0.65, 0.24), (0.42, 0.25), (0.4, 0.47), (0.58, 0.46), (0.66, 0.6), (0.56, 0.75)]
        pen.line([(4 * SIDE * x, 4 * SIDE * y) for x, y in [*five, (0.36, 0.72)]], 255, 32, "curve")
    return np.asarray(fine.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255


def lined(coverage: np.ndarray, *boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Black ink on a light page, and black boxes (left, top, right, bottom) in shares."""
    page = 235 - 215 * coverage
    for left, top, right, bottom in boxes:
        page[(left <= X) & (right >= X) & (top <= Y) & (bottom >= Y)] = 20
    return page


def frame(inset: float, width: float = 0.03) -> tuple[tuple[float, float, float, float], ...]:
    low, high = inset, 1 - inset
    return (
        (low, low, high, low + width),
        (low, high - width, high, high),
        (low, low, low + width, high),
        (high - width, low, high, high),
    )


def turned(coverage: np.ndarray) -> np.ndarray:
    """A frame that was photographed at a slight angle."""
    lines = lined(0 * coverage, *frame(0.07))
    tilted = Image.fromarray(lines).rotate(3, Image.Resampling.BILINEAR, fillcolor=235)
    return np.minimum(np.asarray(tilted), lined(coverage))


def glare(coverage: np.ndarray) -> np.ndarray:
    spot = 100 * np.exp(-((X - 0.8) ** 2 + (Y - 0.25) ** 2) / 0.02)
    return 150 - 130 * coverage + spot


SURROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "frame at the border": lambda c: lined(c, *frame(0)),
    "frame inside": lambda c: lined(c, *frame(0.06)),
    "turned frame": turned,
    "pale frame": lambda c: np.minimum(lined(c), 235 - 0.4 * (235 - lined(0 * c, *frame(0.06)))),
    "light on dark in a frame": lambda c: 255 - lined(c, *frame(0)),
    "two sides of a cell": lambda c: lined(c, (0, 0.02, 1, 0.04), (0.03, 0, 0.05, 1)),
    "cell of a grid": lambda c: lined(
        c, (0, 0.06, 1, 0.08), (0, 0.93, 1, 0.95), (0.06, 0, 0.08, 1), (0.92, 0, 0.94, 1)
    ),
    "broad bar": lambda c: lined(c, (0, 0, 0.1, 1)),
    "table on two sides": lambda c: np.where((X < 0.1 + 0.05 * Y) | (Y > 0.9), 90, lined(c)),
    "edge of a scan": lambda c: lined(c) * (1 - 0.9 / (1 + np.exp((X - 0.05) / 0.01))),
    "shadow of a hand": lambda c: (
        lined(c) * (1 - 0.5 / (1 + np.exp((np.hypot(X - 1, Y - 1) - 0.45) / 0.03)))
    ),
    "vignette": lambda c: lined(c) * (1 - 0.9 * np.hypot(X - 0.5, Y - 0.5) ** 2 * 2),
    "page lit by a lamp": lambda c: (
        lined(c) * (0.2 + 0.7 / (1 + np.exp((np.hypot(X - 0.5, Y - 0.5) - 0.42) / 0.03)))
    ),
    "reflection": glare,
}


def picture(kind: str, coverage: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, coverage.shape)
    return (SURROUNDINGS[kind](coverage) + noise).clip(0, 255).round().astype(np.uint8)


def seen(pixels: np.ndarray) -> np.ndarray:
    return center(pixels, SHAPE).seen.astype(int)


PLAIN = seen(lined(drawn()).astype(np.uint8))


@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_a_digit_is_seen_as_without_its_surroundings(kind: str) -> None:
    assert np.abs(seen(picture(kind, drawn())) - PLAIN).mean() < ALIKE


@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_surroundings_alone_are_no_digit(kind: str) -> None:
    with pytest.raises(DataError, match="contains no digit"):
        seen(picture(kind, drawn(shows_digit=False)))


def test_another_digit_is_seen_as_another() -> None:
    assert np.abs(np.flip(PLAIN, 1) - PLAIN).mean() > 3 * ALIKE


def test_a_digit_that_reaches_the_border_of_a_vignetted_page_is_kept() -> None:
    page = lined(np.roll(drawn(), 26, 0)) * (1 - 0.5 * (X - 0.5) ** 2)

    assert np.abs(seen(page.astype(np.uint8)) - PLAIN).mean() < ALIKE


@pytest.mark.parametrize("is_dark", [True, False])
def test_a_digit_cut_out_to_its_edges_is_kept(is_dark: bool) -> None:
    coverage = drawn()
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    cut_out = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    page = 235 - 215 * cut_out if is_dark else 20 + 215 * cut_out

    assert np.abs(seen(page.astype(np.uint8)) - PLAIN).mean() < ALIKE


def test_a_pale_digit_in_a_black_frame_is_seen() -> None:
    pale = 235 - 0.13 * (235 - lined(drawn()))
    page = np.minimum(pale, lined(0 * drawn(), *frame(0.06)))

    assert np.abs(seen(page.astype(np.uint8)) - PLAIN).mean() < ALIKE
