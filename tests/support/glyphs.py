"""Letters in the fonts that come with matplotlib."""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHAPE = (24, 20)
SIZES = (15, 17, 19)
# The families with plain letters; the others contain mathematical symbols.
FAMILIES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmtt10")


def fonts() -> list[Path]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(
        path
        for path in folder.glob("*.ttf")
        if path.stem.startswith(FAMILIES) and "Display" not in path.stem
    )


def write_letters(root: Path) -> int:
    """Write LETTER/font-size.png, white on black, for each letter, font and size; count them."""
    num = 0
    for path in fonts():
        for size in SIZES:
            font = ImageFont.truetype(path, size)
            for letter in LETTERS:
                folder = root / letter
                folder.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(_drawn(letter, font))
                image.save(folder / f"{path.stem}-{size}.png")
                num += 1
    return num


def _drawn(letter: str, font: ImageFont.FreeTypeFont) -> npt.NDArray[np.uint8]:
    height, width = SHAPE
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).text((width / 2, height / 2), letter, 255, font, anchor="mm")
    return np.asarray(picture)
