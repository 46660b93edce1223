"""The report's graphics: SVG charts in the colors of the page, and images as data URIs.

Output is byte-identical for equal input, and several threads can draw at once.
"""

import base64
import html
import io
import re
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

Array = npt.NDArray[Any]
Corner = Literal["upper right", "lower right", "lower left"]

NUM_TONES = 4
"""Number of model colors on the page; more models are told apart by markers and line styles."""

WIDTH, HEIGHT = 400, 230
FONT_SIZE = 12
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))

# Matplotlib needs fixed colors, but the page has light and dark ones: these placeholders are
# replaced by the page's CSS variables.
TEXT, FAINT, LINE, CARD = "#000001", "#000002", "#000003", "#000004"
TONES = tuple(f"#00001{tone}" for tone in range(NUM_TONES))
PAGE_COLORS = {TEXT: "text", FAINT: "faint", LINE: "line", CARD: "card"} | {
    color: f"series-{tone}" for tone, color in enumerate(TONES)
}

# Matplotlib reads the settings for SVG text and ids from its global configuration only.
_settings_lock = threading.Lock()


@dataclass(frozen=True)
class Curve:
    """One line of a chart: float `y` (n,) over `x` (n,); NaN leaves a gap. `tone` is its color."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    tone: int
    is_faint: bool = False


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_limits: tuple[float, float],
    is_share: bool,
    legend: Corner,
) -> str:
    """Draw a line chart as an inline <svg>; `title` is its text alternative.

    `is_share` shows y as percentages; `legend` is the legend's corner.
    """
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    axes = figure.add_axes((0.115, 0.165, 0.865, 0.8))
    lines = [_draw_curve(axes, curve) for curve in curves]
    _style(axes, x_label, y_limits, is_share)
    if len(curves) > 1:
        # Matplotlib omits labels that begin with "_", so the names are set afterwards.
        numbers = [str(number) for number in range(len(lines))]
        key = axes.legend(lines, numbers, loc=legend, fontsize=FONT_SIZE)
        key.get_frame().set(facecolor=CARD, edgecolor="none", alpha=1)
        for text, curve in zip(key.get_texts(), curves, strict=True):
            text.set(text=curve.label, parse_math=False, color=TEXT)
    return _svg(figure, title)


def image_uri(image: Array) -> str:
    """Encode a grayscale image (H, W), uint8 or float in 0..1, as the data URI of a PNG."""
    if not np.issubdtype(image.dtype, np.integer):
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return _png(np.repeat(image[..., np.newaxis], 3, axis=2))


def heat_uri(confusion: Array) -> str:
    """Draw a confusion matrix (K, K) as K x K pixels: correct counts blue, mistakes red.

    The background is transparent, so it suits a light and a dark page.
    """
    pixels = np.zeros((*confusion.shape, 4), np.float64)
    pixels[..., :3] = (0.76, 0.19, 0.16)
    pixels[..., 3] = heat(confusion)
    diagonal = np.arange(len(confusion))
    pixels[diagonal, diagonal, :3] = (0.11, 0.36, 0.75)
    return _png(np.rint(pixels * 255).astype(np.uint8))


def heat(confusion: Array) -> npt.NDArray[np.float64]:
    """Compute the color strength, 0 to 1, of each count of a confusion matrix (K, K).

    Correct counts are scaled by their row, mistakes by the largest mistake: on the scale of the
    correct counts, even the most frequent mistake would be invisible.
    """
    counts = confusion.astype(np.float64)
    right = np.eye(len(counts), dtype=bool)
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    largest = max(counts[~right].max(initial=0), 1)
    wrong = np.where(counts > 0, 0.1 + 0.6 * counts / largest, 0)
    return np.where(right, counts / rows, wrong)


def _draw_curve(axes: Axes, curve: Curve) -> Any:
    color = TONES[curve.tone % NUM_TONES]
    mark = MARKS[curve.tone % len(MARKS)]
    (line,) = axes.plot(
        curve.x,
        curve.y,
        color=color,
        linewidth=1.5 if curve.is_faint else 2,
        linestyle=(0, (4, 2)) if curve.is_faint else DASHES[curve.tone // NUM_TONES % 4],
        marker=mark,
        markersize=3.5 if curve.is_faint else 5,
        clip_on=False,
        zorder=3,
    )
    return line


def _style(axes: Axes, x_label: str, y_limits: tuple[float, float], is_share: bool) -> None:
    axes.set_ylim(*y_limits)
    axes.set_xlabel(x_label, color=FAINT, fontsize=FONT_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # Steps that divide 100%, so 100% has a grid line.
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 4, 5, 10]))
    if is_share:
        axes.yaxis.set_major_formatter(lambda share, _: f"{share * 100:.4g}%")
    axes.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=FAINT, pad=5)
    axes.grid(axis="y", color=LINE, linewidth=1)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)


def _svg(figure: Figure, title: str) -> str:
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    # The salt determines the ids in the SVG, which must differ between charts of one page.
    settings: Any = {
        "font.sans-serif": ["DejaVu Sans"],
        "svg.fonttype": "none",
        "svg.hashsalt": title,
    }
    with _settings_lock, matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser renders the text; glyphs missing in Matplotlib's font only affect measuring.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return _inline(buffer.getvalue(), title)


# None omits an entry, which Matplotlib's type hints do not allow.
_NO_SOFTWARE: Any = {"Software": None}
_NO_METADATA: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def _inline(document: str, title: str) -> str:
    """Make a stand-alone SVG part of a page: drop its prolog, metadata, styles and group ids."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<g) id="[^"]*"', r"\1", body)
    body = re.sub(r"<[^>]+>", lambda tag: _in_page_colors(tag[0]), body)
    label = html.escape(title)
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    body = re.sub(r"<svg\b[^>]*>", lambda _: opening, body, count=1)
    return re.sub(r"\s*\n\s*", "\n", body).strip()


def _in_page_colors(tag: str) -> str:
    for color, name in PAGE_COLORS.items():
        tag = tag.replace(color, f"var(--{name})")
    return tag


def _png(pixels: Array) -> str:
    buffer = io.BytesIO()
    imsave(
        buffer,
        pixels,
        format="png",
        metadata=_NO_SOFTWARE,
        pil_kwargs={"optimize": True},
    )
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
