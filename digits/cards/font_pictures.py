"""How well a version labels pictures that are not its dataset's: digits in common fonts.

The fonts are those for text that come with matplotlib, so the pictures are the same wherever the
same release of it is installed.
"""

from collections.abc import Iterator
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.inference.loaded_versions import LoadedVersion
from digits.labeling.image_files import Grey
from digits.labeling.labeler import Prediction, label_images
from digits.storage.references import Frozen

# Symbol fonts are left out, and those for large sizes, which have no digits.
FONT_FILES = (
    "DejaVuS*.ttf",
    "STIXGeneral*.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
    "cmss10.ttf",
    "cmt*.ttf",
)
DIGITS = "0123456789"
SIDE, HEIGHT = 128, 80


class FontScore(Frozen):
    """The number of pictures with the right label, and the fonts they were drawn in."""

    num_right: int
    num_pictures: int
    fonts: tuple[str, ...]
    matplotlib: str


def score_fonts(version: LoadedVersion) -> FontScore | None:
    """Label each class's digit, black on white, in each font; None if classes are not digits."""
    names = version.layout.class_names
    if not set(names) <= set(DIGITS):
        return None
    fonts = font_files()
    truth = [name for _ in fonts for name in names]
    pictures = ((name, draw(font, name)) for font in fonts for name in names)
    answers = label_images(pictures, version, as_is=False)
    num_right = sum(
        isinstance(answer, Prediction) and answer.name == name
        for answer, name in zip(answers, truth, strict=True)
    )
    return FontScore(
        num_right=num_right,
        num_pictures=len(truth),
        fonts=tuple(_names(fonts)),
        matplotlib=version_of("matplotlib"),
    )


def font_files() -> list[Path]:
    """Return matplotlib's font files that have digits."""
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    found = [path for pattern in FONT_FILES for path in sorted(folder.glob(pattern))]
    return [path for path in found if not path.stem.endswith("Display")]


def draw(font: Path, text: str) -> Grey:
    """Draw text in the middle of a white square, black, as gray uint8 (128, 128)."""
    picture = Image.new("L", (SIDE, SIDE), 255)
    face = ImageFont.truetype(str(font), HEIGHT)
    ImageDraw.Draw(picture).text((SIDE / 2, SIDE / 2), text, 0, font=face, anchor="mm")
    return np.asarray(picture)


def _names(fonts: list[Path]) -> Iterator[str]:
    for path in fonts:
        family, style = ImageFont.truetype(str(path), HEIGHT).getname()
        yield " ".join(filter(None, (family, style)))
