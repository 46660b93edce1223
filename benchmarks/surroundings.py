"""Pictures of digits as people cut and photograph them: in frames, in shadow, beside others.

Each kind turns the ink coverage of a digit, (h, w) in 0..1, into a gray picture (h, w) in 0..255.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Random = np.random.Generator
# Draws lines into a picture; the arguments are its size, the lines' width and a random generator.
Lines = Callable[[tuple[int, int], float, Random], Floats]
# Returns the light that falls on a page, as a share of full light, (h, w).
Light = Callable[[tuple[int, int], Random], Floats]

Boxes = list[tuple[float, float, float, float]]

# Lines are drawn at this multiple of their size and reduced, so that their edges are smooth.
FINE = 4


@dataclass(frozen=True)
class Surroundings:
    """One kind of picture: lines around the digit, the light on the page, and what lies over it."""

    name: str
    lines: Lines | None = None
    light: Light | None = None
    over: Callable[[Floats, Random], Floats] | None = None
    paper: tuple[int, int] = (200, 255)
    ink: tuple[int, int] = (0, 70)
    noise: float = 3.0


def render(kind: Surroundings, coverage: Floats, random: Random) -> Image.Image:
    """Return a picture of a digit, or of nothing if `coverage` is 0 everywhere."""
    size = coverage.shape[0], coverage.shape[1]
    paper, ink = random.uniform(*kind.paper), random.uniform(*kind.ink)
    gray = paper + (ink - paper) * coverage
    if kind.lines is not None:
        width = max(1.0, min(size) * random.uniform(0.01, 0.04))
        level = random.choice([ink, random.uniform(0, 120)])
        gray += (level - gray) * kind.lines(size, width, random)
    if kind.light is not None:
        gray *= kind.light(size, random)
    if kind.over is not None:
        gray = kind.over(gray, random)
    gray = ndimage.gaussian_filter(gray, random.uniform(0, 0.006) * min(size))
    gray += random.normal(0, random.uniform(0, kind.noise), size)
    return Image.fromarray(gray.clip(0, 255).round().astype(np.uint8))


def _draw(size: tuple[int, int], rules: Boxes, tilt: float) -> Floats:
    """Draw filled boxes (left, top, right, bottom), turned by `tilt` degrees about the middle."""
    height, width = size
    # Turning moves what lies beyond the border into the picture.
    room = round(0.2 * max(size))
    fine = Image.new("L", ((width + 2 * room) * FINE, (height + 2 * room) * FINE))
    pen = ImageDraw.Draw(fine)
    for box in rules:
        left, top, right, bottom = (round((side + room) * FINE) for side in box)
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), 255)
    turned = fine.rotate(tilt, Image.Resampling.BICUBIC)
    small = np.asarray(turned.resize((width + 2 * room, height + 2 * room), Image.Resampling.BOX))
    drawn: Floats = small[room:-room, room:-room] / 255
    return drawn


def _sides(size: tuple[int, int], width: float, inset: float, sides: str, reach: float) -> Boxes:
    """Return the boxes of a frame's sides t, l, b and r, `inset` from the border."""
    height, wide = size
    end_x, end_y = wide - inset, height - inset
    boxes = {
        "t": (inset - reach, inset, end_x + reach, inset + width),
        "b": (inset - reach, end_y - width, end_x + reach, end_y),
        "l": (inset, inset - reach, inset + width, end_y + reach),
        "r": (end_x - width, inset - reach, end_x, end_y + reach),
    }
    return [boxes[side] for side in sides]


def frame(size: tuple[int, int], width: float, random: Random) -> Floats:
    """A frame along the picture's border."""
    outward = max(size)
    boxes = _sides(size, width, 0, "tlbr", outward)
    height, wide = size
    # What a turned picture shows beyond its border is part of the line.
    beyond: Boxes = [
        (-outward, -outward, wide + outward, 0),
        (-outward, height, wide + outward, height + outward),
        (-outward, -outward, 0, height + outward),
        (wide, -outward, wide + outward, height + outward),
    ]
    return _draw(size, boxes + beyond, random.uniform(-1, 1))


def inset_frame(size: tuple[int, int], width: float, random: Random) -> Floats:
    """A frame inside the picture."""
    inset = min(size) * random.uniform(0.02, 0.08)
    return _draw(size, _sides(size, width, inset, "tlbr", 0), random.uniform(-3, 3))


def some_sides(size: tuple[int, int], width: float, random: Random) -> Floats:
    """One to three sides of a cell, as where a cell was cut out of a grid carelessly."""
    sides = random.choice(["tl", "br", "tr", "bl", "l", "t", "b", "r", "tb", "lr", "tlb", "lbr"])
    inset = min(size) * random.uniform(0, 0.06)
    return _draw(size, _sides(size, width, inset, sides, max(size)), random.uniform(-2, 2))


def grid(size: tuple[int, int], width: float, random: Random) -> Floats:
    """A cell with the lines of its grid, which go on to the border."""
    inset = min(size) * random.uniform(0.03, 0.1)
    return _draw(size, _sides(size, width, inset, "tlbr", max(size)), random.uniform(-3, 3))


def bar(size: tuple[int, int], _: float, random: Random) -> Floats:
    """A broad bar along one side."""
    broad = min(size) * random.uniform(0.05, 0.12)
    side = random.choice(list("tlbr"))
    inset = random.choice([0, min(size) * random.uniform(0, 0.03)])
    return _draw(size, _sides(size, broad, inset, side, max(size)), random.uniform(-1, 1))


def table(gray: Floats, random: Random) -> Floats:
    """The page's edges, one to three, and the table beyond them."""
    size = gray.shape[0], gray.shape[1]
    sides = random.choice(["t", "l", "b", "r", "tl", "br", "tr", "bl", "tlb", "lbr"])
    broad, far = min(size) * random.uniform(0.04, 0.15), max(size)
    boxes: Boxes = [
        {
            "t": (-far, -far, size[1] + far, broad),
            "b": (-far, size[0] - broad, size[1] + far, size[0] + far),
            "l": (-far, -far, broad, size[0] + far),
            "r": (size[1] - broad, -far, size[1] + far, size[0] + far),
        }[side]
        for side in sides
    ]
    share = _draw(size, boxes, random.uniform(-4, 4))
    wood = random.uniform(20, 150) + 12 * ndimage.gaussian_filter(
        random.normal(0, 3, size), (0.5, 4)
    )
    seen: Floats = gray + (wood - gray) * share
    return seen


def scanner_edge(gray: Floats, random: Random) -> Floats:
    """The dark edge of a scan, along one side or two, fading into the page."""
    height, width = gray.shape
    y, x = np.mgrid[:height, :width]
    near = {"t": y, "b": height - 1 - y, "l": x, "r": width - 1 - x}
    dark = np.zeros(gray.shape)
    for side in random.choice(["t", "l", "b", "r", "tl", "br"]):
        broad, soft = (
            min(gray.shape) * random.uniform(*share) for share in ((0.02, 0.1), (0.003, 0.03))
        )
        uneven = ndimage.gaussian_filter1d(random.normal(0, 1, max(gray.shape)), 6) * broad * 0.3
        along = x if side in "tb" else y
        dark = np.maximum(
            dark, 1 / (1 + np.exp(((near[side] + uneven[along]) - broad) / max(soft, 0.3)))
        )
    seen: Floats = gray * (1 - random.uniform(0.6, 1) * dark)
    return seen


def hand_shadow(size: tuple[int, int], random: Random) -> Floats:
    """The shadow of a hand: a dark blob with a soft edge that comes in from a side or corner."""
    height, width = size
    y, x = np.mgrid[:height, :width] / max(size)
    angle, shadow = random.uniform(0, 2 * np.pi), np.zeros(size)
    for _ in range(random.integers(1, 4)):
        turn = angle + random.normal(0, 0.35)
        middle = 0.5 + 0.55 * np.array([np.sin(turn), np.cos(turn)])
        radius, soft = random.uniform(0.2, 0.5), random.uniform(0.02, 0.1)
        far = np.hypot(y - middle[0], (x - middle[1]) * random.uniform(0.7, 1.4))
        shadow = np.maximum(shadow, 1 / (1 + np.exp((far - radius) / soft)))
    light: Floats = 1 - random.uniform(0.3, 0.65) * shadow
    return light


def vignette(size: tuple[int, int], random: Random) -> Floats:
    """Light that falls off toward the corners."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    middle = [side * random.uniform(0.4, 0.6) for side in size]
    far = np.hypot((y - middle[0]) / height, (x - middle[1]) / width) / np.hypot(0.5, 0.5)
    light: Floats = 1 - random.uniform(0.4, 0.85) * far.clip(0, 1.2) ** random.uniform(1.5, 4)
    return light.clip(0.02, 1)


def lamp(size: tuple[int, int], random: Random) -> Floats:
    """A page lit by a lamp: bright around the digit, dark elsewhere."""
    height, width = size
    y, x = np.mgrid[:height, :width] / max(size)
    far = np.hypot(
        y - random.uniform(0.4, 0.6) * height / max(size),
        x - random.uniform(0.4, 0.6) * width / max(size),
    )
    radius, soft = random.uniform(0.35, 0.5), random.uniform(0.03, 0.1)
    light: Floats = random.uniform(0.1, 0.4) + 0.6 / (1 + np.exp((far - radius) / soft))
    return light


def glare(gray: Floats, random: Random) -> Floats:
    """A reflection of a lamp, which makes a part of the page white and its ink paler."""
    height, width = gray.shape
    y, x = np.mgrid[:height, :width] / max(gray.shape)
    middle = random.uniform(0.1, 0.9, 2) * np.array(gray.shape) / max(gray.shape)
    far = np.hypot(y - middle[0], (x - middle[1]) * random.uniform(0.6, 1.6))
    spot = np.exp(-((far / random.uniform(0.1, 0.3)) ** 2)) * random.uniform(60, 130)
    seen: Floats = (gray + spot).clip(0, 255)
    return seen


KINDS = (
    Surroundings("frame at the border", lines=frame),
    Surroundings("frame inside the picture", lines=inset_frame),
    Surroundings("cell of a grid", lines=grid),
    Surroundings("one to three sides of a cell", lines=some_sides),
    Surroundings("broad bar", lines=bar),
    Surroundings(
        "light on dark, frame at the border",
        lines=lambda s, w, r: 1.6 * frame(s, w, r),
        paper=(0, 60),
        ink=(200, 255),
    ),
    Surroundings("frame and uneven light", lines=inset_frame, light=vignette),
    Surroundings("edge of the table", over=table),
    Surroundings("edge of a scan", over=scanner_edge),
    Surroundings("shadow of a hand", light=hand_shadow),
    Surroundings("vignette", light=vignette),
    Surroundings("page lit by a lamp", light=lamp),
    Surroundings("glare", over=glare, paper=(130, 200)),
)
