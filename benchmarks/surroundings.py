"""Measures how digits are labeled in frames and grids, in shadow, under lamps, and beside others.

Usage: python -m benchmarks.surroundings [--seed 1]
Each kind of surroundings turns the ink coverage of a digit, (h, w) in 0..1, into a gray picture
(h, w) in 0..255. MNIST's test images, digits drawn as with a mouse and digits in fonts are labeled
in it and in a plain picture; surroundings without a digit should be refused. Then numbers of two to
six digits are read with `--each`, and letters are told from digits by the probability alone.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from benchmarks.own_images import Condition, Draw, font_digit, fonts, mouse_digit
from digits.datasets.images import iter_split
from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.labeling.labeler import Prediction, label_files
from digits.registry.champion import champion_version, dataset_folder
from digits.settings import Settings
from digits.storage.workspace import Workspace, current_workspace
from flows.environment import prepare_environment

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

# Letters that are written like a digit: no classifier of shapes can tell them.
LIKE_DIGITS = "OIlSZBbgqzoso|"
LETTERS = [
    letter
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    if letter not in LIKE_DIGITS
]
Source = Callable[[Random], tuple[Floats, str]]


def sources(champion: LoadedVersion, workspace: Workspace) -> dict[str, Source]:
    """Return functions that draw a digit: ink coverage (h, w) in 0..1, and the digit."""
    path = dataset_folder(champion_version(champion.dataset, workspace), workspace) / "test.parquet"
    chunks = list(iter_split(path, champion.layout))
    images = np.concatenate([images for images, _ in chunks])
    labels = np.concatenate([labels for _, labels in chunks])

    def from_dataset(random: Random) -> tuple[Floats, str]:
        number = int(random.integers(len(images)))
        side = int(random.integers(90, 220))
        size = round(side * random.uniform(0.55, 0.9))
        digit = Image.fromarray(images[number]).resize((size, size), Image.Resampling.BICUBIC)
        canvas = Image.new("L", (side, side))
        canvas.paste(digit, ((side - size) // 2, (side - size) // 2))
        return np.asarray(canvas) / 255, str(labels[number])

    faces = fonts()
    return {
        "test images": from_dataset,
        "mouse": lambda random: _drawn(mouse_digit, random),
        "fonts": lambda random: _drawn(font_digit(faces[random.integers(len(faces))]), random),
    }


def _drawn(draw: Draw, random: Random) -> tuple[Floats, str]:
    digit = int(random.integers(10))
    condition = Condition("surrounded", side=(90, 220), share=(0.4, 0.65))
    return draw(random, digit, condition) / 255, str(digit)


def labels_of(pictures: Iterator[Image.Image], champion: LoadedVersion) -> list[str | None]:
    """Return the label of each picture, as files that `digits predict` reads; None if refused."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, picture in enumerate(pictures):
            files.append(f"{folder}/{number:05}.png")
            picture.save(files[-1])
        answers = list(label_files(files, champion))
    return [answer.name if isinstance(answer, Prediction) else None for answer in answers]


def measure_kind(
    kind: Surroundings, source: Source, num_images: int, champion: LoadedVersion, random: Random
) -> tuple[int, int]:
    """Return how many pictures have the label of the plain one, and how many empty ones none."""
    drawn = [source(random)[0] for _ in range(num_images)]
    plain = labels_of((Image.fromarray((255 - 235 * c).astype(np.uint8)) for c in drawn), champion)
    found = labels_of((render(kind, c, random) for c in drawn), champion)
    empty = labels_of((render(kind, 0 * c, random) for c in drawn), champion)
    return sum(a == b for a, b in zip(plain, found, strict=True)), empty.count(None)


def number_of(digits: list[Floats], random: Random) -> Image.Image:
    """Write digits side by side, about as far apart as in handwriting."""
    height = 60
    row = [np.zeros((height, 8))]
    for digit in digits:
        inked = np.flatnonzero((digit > 0.2).any(axis=0))
        rows = np.flatnonzero((digit > 0.2).any(axis=1))
        cut = digit[rows[0] : rows[-1] + 1, inked[0] : inked[-1] + 1]
        width = max(3, round(cut.shape[1] * 40 / cut.shape[0]))
        small = Image.fromarray((cut * 255).astype(np.uint8)).resize((width, 40))
        row += [np.pad(np.asarray(small) / 255, ((10, 10), (0, int(random.integers(6, 16)))))]
    return Image.fromarray((240 - 220 * np.hstack(row)).astype(np.uint8))


def measure_numbers(
    source: Source, num_images: int, champion: LoadedVersion, random: Random
) -> int:
    """Return how many numbers of two to six digits are read as written."""
    num_right = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(num_images):
            drawn = [source(random) for _ in range(random.integers(2, 7))]
            number_of([coverage for coverage, _ in drawn], random).save(f"{folder}/1.png")
            answers = list(label_files([f"{folder}/1.png"], champion, each=True))
            read = "".join(answer.name for answer in answers if isinstance(answer, Prediction))
            num_right += read == "".join(digit for _, digit in drawn)
    return num_right


def letter_pictures(random: Random) -> Iterator[Image.Image]:
    """Yield each letter that is not written like a digit, in each font."""
    for face in fonts():
        for letter in LETTERS:
            page = Image.new("L", (120, 140), 240)
            size = int(random.integers(60, 100))
            font = ImageFont.truetype(str(face), size)
            ImageDraw.Draw(page).text((60, 70), letter, 20, font, "mm")
            yield page


def probabilities(
    pictures: Iterator[Image.Image], champion: LoadedVersion
) -> npt.NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, picture in enumerate(pictures):
            files.append(str(Path(folder, f"{number:05}.png")))
            picture.save(files[-1])
        answers = label_files(files, champion)
        return np.array([a.probability if isinstance(a, Prediction) else 0 for a in answers])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--images", type=int, default=100, help="number of pictures per cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds-only", action="store_true", help="no numbers and letters")
    options = parser.parse_args()
    prepare_environment(Settings())
    champion = load_version(options.dataset, current_workspace())
    drawers = sources(champion, current_workspace())
    number = options.images
    print("| surroundings | " + " | ".join(drawers) + " | nothing: refused |")
    print("|---|" + "---:|" * (len(drawers) + 1))
    for place, kind in enumerate(KINDS):
        random = np.random.default_rng([options.seed, place])
        found = [measure_kind(kind, draw, number, champion, random) for draw in drawers.values()]
        cells = [f"{right}/{number}" for right, _ in found]
        refused = f"{sum(none for _, none in found)}/{number * len(found)}"
        print(f"| {kind.name} | " + " | ".join([*cells, refused]) + " |", flush=True)
    if options.kinds_only:
        return
    random = np.random.default_rng([options.seed, len(KINDS)])
    read = [measure_numbers(draw, number, champion, random) for draw in drawers.values()]
    print("| numbers of 2 to 6 digits | " + " | ".join(f"{n}/{number}" for n in read) + " | |")
    letters = probabilities(letter_pictures(random), champion)
    for name, draw in drawers.items():
        plain = (
            Image.fromarray((255 - 235 * draw(random)[0]).astype(np.uint8))
            for _ in range(5 * number)
        )
        digits = probabilities(plain, champion)
        wins = (digits[:, None] > letters).mean() + (digits[:, None] == letters).mean() / 2
        print(f"\n{name}: a digit has a higher probability than a letter in {wins:.1%} of pairs")
        for share in (0.01, 0.05, 0.1):
            limit = np.quantile(digits, share)
            told = (letters < limit).mean()
            print(f"  {share:.0%} of digits are below {limit:.4f}, {told:.1%} of letters")


if __name__ == "__main__":
    main()
