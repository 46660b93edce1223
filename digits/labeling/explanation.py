"""An explanation of a label: the original, what the model saw, and the probabilities."""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.labeling.image_files import Grey
from digits.labeling.labeler import Prediction

SIDE, GAP, BAR = 280, 12, 22
PAPER, TEXT, FAINT, CHOSEN = "white", "black", "lightgrey", "royalblue"
MAX_BARS = 10


def explain(answer: Prediction, names: tuple[str, ...]) -> Image.Image:
    """Draw the original, the image that the model saw (enlarged), and the most probable classes."""
    sheet = Image.new("RGB", (3 * SIDE + 4 * GAP, SIDE + 2 * GAP), PAPER)
    pictures = (answer.picture.original, answer.picture.seen)
    for column, pixels in enumerate(pixels for pixels in pictures if pixels is not None):
        sheet.paste(_enlarged(pixels), (GAP + column * (SIDE + GAP), GAP))
    _draw_bars(ImageDraw.Draw(sheet), answer, names)
    return sheet


def explanation_path(folder: Path, number: int, file: str) -> Path:
    """Return the path of the `number`th answer's explanation; no two answers share a path."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(file).stem)[:80]
    return folder / f"{number:06}-{stem}.png"


def _enlarged(pixels: Grey) -> Image.Image:
    picture = Image.fromarray(pixels)
    scale = SIDE / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.NEAREST)


def _draw_bars(draw: ImageDraw.ImageDraw, answer: Prediction, names: tuple[str, ...]) -> None:
    font = ImageFont.load_default(14)
    left, width = 2 * SIDE + 3 * GAP, SIDE
    best = np.argsort(-answer.probabilities, kind="stable")[:MAX_BARS]
    for row, label in enumerate(best):
        top, probability = GAP + row * (BAR + 6), float(answer.probabilities[label])
        end = left + max(1, round(width * probability))
        draw.rectangle((left, top, end, top + BAR), CHOSEN if row == 0 else FAINT)
        draw.text((left + 4, top + 3), f"{names[label]}  {probability:.2%}", TEXT, font=font)
