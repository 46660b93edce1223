"""Measures how many images that are not from MNIST the champion labels correctly.

Usage: python -m benchmarks.own_images
Digits in fonts and digits drawn as with a mouse, under conditions typical of users' own images, are
written to files and labeled by the code of `digits predict`. All randomness comes from one seed.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from digits.cards.font_pictures import font_files
from digits.inference.loaded_versions import load_version
from digits.labeling.labeler import Prediction, label_files
from digits.settings import Settings
from digits.storage.workspace import current_workspace
from flows.environment import prepare_environment

Gray = npt.NDArray[np.uint8]
Random = np.random.Generator
Draw = Callable[[Random, int, "Condition"], Gray]

# Debian's fonts, if they are installed, in addition to matplotlib's.
LIBERATION = Path("/usr/share/fonts/truetype/liberation")

# Each digit as pen strokes, in hundredths of a box, y downward; some are written in two ways.
STROKES: dict[int, tuple[str, ...]] = {
    0: ("55,0 20,12 5,50 20,88 50,100 80,88 95,50 80,12 50,0",),
    1: (
        "50,0 50,35 50,70 50,100",
        "30,25 55,0 55,50 55,100",
    ),
    2: ("10,25 25,5 55,0 80,15 80,38 55,65 10,100 50,100 95,100",),
    3: ("10,10 40,0 75,8 80,28 60,45 35,48 65,52 88,70 75,93 40,100 8,88",),
    4: (
        "35,0 20,30 5,60 50,60 95,58; 70,20 68,60 65,100",
        "70,100 70,50 70,0 35,35 5,65 50,65 98,65",
    ),
    5: ("25,0 20,25 17,45 50,38 82,52 85,78 60,98 10,93; 25,0 55,1 88,0",),
    6: ("70,0 40,15 15,50 12,80 40,100 75,92 85,70 60,52 30,58 14,75",),
    7: (
        "5,0 50,2 92,0 70,35 50,70 40,100",
        "5,0 50,2 92,0 65,50 45,100; 30,50 60,50 85,48",
    ),
    8: ("75,12 50,0 22,12 30,35 60,55 85,78 55,100 20,85 35,58 65,40 78,20 70,8",),
    9: ("82,20 55,0 22,10 15,35 40,50 70,42 83,15 80,55 72,100",),
}


@dataclass(frozen=True)
class Condition:
    """How images differ from black on white at medium size."""

    name: str
    side: tuple[int, int] = (100, 200)
    share: tuple[float, float] = (0.5, 0.8)
    rotation: float = 0.0
    ink: tuple[int, int] = (0, 40)
    paper: tuple[int, int] = (235, 255)
    noise: float = 0.0
    shadow: float = 0.0
    suffix: str = ".png"


CONDITIONS = (
    Condition("black on white"),
    Condition("inverted: light on dark", ink=(215, 255), paper=(0, 20)),
    Condition("odd sizes: 20 to 40 pixels", side=(20, 40), share=(0.6, 0.9)),
    Condition("odd sizes: 500 to 2,000 pixels", side=(500, 2000)),
    Condition("small in the image: a fifth of 300", side=(250, 350), share=(0.15, 0.25)),
    Condition("rotated by up to 10 degrees", rotation=10),
    Condition("rotated by up to 20 degrees", rotation=20),
    Condition("gray ink on gray paper", ink=(80, 120), paper=(160, 200)),
    Condition("noisy background, sigma 20", noise=20),
    Condition("noisy background, sigma 50", noise=50, ink=(20, 60), paper=(190, 220)),
    Condition("half in shadow", shadow=60, paper=(220, 240)),
    Condition("JPEG of quality 20", suffix=".jpg"),
    Condition(
        "combined: rotation, noise, gray, shadow",
        side=(40, 400), rotation=15, noise=15, shadow=30, ink=(30, 80), paper=(200, 230),
    ),
)  # fmt: skip


def fonts() -> list[Path]:
    """Return the font files whose digits are drawn."""
    return [*font_files(), *sorted(LIBERATION.glob("*.ttf"))]


def font_digit(font: Path) -> Draw:
    """Return a function that draws a digit in a font: ink coverage uint8 (h, w)."""

    def draw(random: Random, digit: int, condition: Condition) -> Gray:
        canvas, height = canvas_of(random, condition)
        face = ImageFont.truetype(str(font), round(height / 0.73))
        box = face.getbbox(str(digit))
        left = (canvas[0] - box[2] - box[0]) / 2 + wander(random, canvas[0])
        top = (canvas[1] - box[3] - box[1]) / 2 + wander(random, canvas[1])
        picture = Image.new("L", canvas)
        ImageDraw.Draw(picture).text((left, top), str(digit), 255, font=face)
        return rotated(picture, random, condition)

    return draw


def mouse_digit(random: Random, digit: int, condition: Condition) -> Gray:
    """Draw a digit in strokes, as uneven as by hand with a mouse: ink coverage uint8 (h, w)."""
    canvas, height = canvas_of(random, condition)
    width = height * random.uniform(0.4, 0.9)
    pen = max(1.0, height * random.uniform(0.06, 0.14))
    slant = random.normal(0, 0.2)
    corner = ((canvas[0] - width) / 2, (canvas[1] - height) / 2)
    scale = 4 if max(canvas) < 600 else 1
    picture = Image.new("L", (canvas[0] * scale, canvas[1] * scale))
    pencil = ImageDraw.Draw(picture)
    for stroke in strokes(random, digit):
        points = smooth_path(stroke + random.normal(0, 0.04, stroke.shape))
        points += np.cumsum(random.normal(0, 0.002, points.shape), axis=0)
        points[:, 0] += slant * (0.5 - points[:, 1])
        path = [
            ((x * width + corner[0]) * scale, (y * height + corner[1]) * scale) for x, y in points
        ]
        radius = pen * scale / 2
        pencil.line(path, 255, width=max(1, round(2 * radius)))
        for x, y in path:
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    return rotated(picture.resize(canvas, Image.Resampling.BOX), random, condition)


def strokes(random: Random, digit: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the strokes of one way to write a digit, each as points (n, 2) in a 1x1 box."""
    way = STROKES[digit][random.integers(len(STROKES[digit]))]
    for stroke in way.split(";"):
        yield np.array([point.split(",") for point in stroke.split()], np.float64) / 100


def smooth_path(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Interpolate points (n, 2) by a smooth curve, as drawn by hand (Catmull and Rom, 1974)."""
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    parts = [
        0.5
        * (
            2 * b
            + (c - a) * t
            + (2 * a - 5 * b + 4 * c - d) * t**2
            + (3 * b - a - 3 * c + d) * t**3
        )
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.concatenate([*parts, points[-1:]])


def canvas_of(random: Random, condition: Condition) -> tuple[tuple[int, int], float]:
    """Draw at random an image's (width, height) and the height of the digit in it."""
    width, height = (int(random.integers(*condition.side, endpoint=True)) for _ in range(2))
    return (width, height), min(width, height) * random.uniform(*condition.share)


def wander(random: Random, side: int) -> float:
    """Draw at random a digit's offset from the center, in pixels."""
    return random.uniform(-0.05, 0.05) * side


def rotated(picture: Image.Image, random: Random, condition: Condition) -> Gray:
    angle = random.uniform(-condition.rotation, condition.rotation)
    return np.asarray(picture.rotate(angle, Image.Resampling.BICUBIC))


def photograph(coverage: Gray, random: Random, condition: Condition) -> Image.Image:
    """Render ink on paper under a condition, from the ink coverage (h, w)."""
    ink, paper = random.uniform(*condition.ink), random.uniform(*condition.paper)
    share = coverage.astype(np.float64) / 255
    # A shadow with a soft edge somewhere across the image.
    x = np.linspace(-1, 1, coverage.shape[1]) * random.choice([-1, 1])
    dark = condition.shadow / (1 + np.exp(-8 * (x - random.uniform(-0.5, 0.5))))
    gray = paper + (ink - paper) * share - dark
    gray += random.normal(0, condition.noise, gray.shape) if condition.noise else 0
    return Image.fromarray(gray.clip(0, 255).round().astype(np.uint8))


def write_pictures(
    folder: Path, drawers: list[Draw], condition: Condition, seed: int
) -> Iterator[tuple[Path, int]]:
    """Write one image of each digit per drawer; yields the files and their true digits."""
    random = np.random.default_rng(seed)
    for number, draw in enumerate(drawers):
        for digit in range(10):
            picture = photograph(draw(random, digit, condition), random, condition)
            path = folder / f"{number:03}-{digit}{condition.suffix}"
            picture.save(path, quality=20) if condition.suffix == ".jpg" else picture.save(path)
            yield path, digit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--writers", type=int, default=20, help="number of writers with a mouse")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepare_environment(Settings())
    champion = load_version(options.dataset, current_workspace())
    groups: dict[str, list[Draw]] = {
        "fonts": [font_digit(font) for font in fonts()],
        "mouse": [mouse_digit] * options.writers,
    }
    print(
        f"Champion: version {champion.number}, {champion.model.name}, "
        f"{champion.model.accuracy:.2%} on its test set. "
        f"{len(groups['fonts'])} fonts, {options.writers} writers, ten digits each.\n"
    )
    print("| images | " + " | ".join(groups) + " |\n|---|" + "---:|" * len(groups))
    totals = dict.fromkeys(groups, (0, 0))
    for condition in CONDITIONS:
        cells = []
        for group, drawers in groups.items():
            with tempfile.TemporaryDirectory() as folder:
                truth = dict(write_pictures(Path(folder), drawers, condition, options.seed))
                answers = label_files((str(path) for path in truth), champion)
                right = sum(
                    isinstance(a, Prediction) and a.label == truth[Path(a.file)] for a in answers
                )
            cells.append(f"{right}/{len(truth)} ({right / len(truth):.1%})")
            totals[group] = (totals[group][0] + right, totals[group][1] + len(truth))
        print(f"| {condition.name} | " + " | ".join(cells) + " |", flush=True)
    sums = [f"{right}/{number} ({right / number:.1%})" for right, number in totals.values()]
    print("| all | " + " | ".join(sums) + " |")


if __name__ == "__main__":
    main()
