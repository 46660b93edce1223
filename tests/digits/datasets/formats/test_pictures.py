"""Pictures in class folders: formats and depths."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from tests.support.handwriting import make_splits
from tests.support.layouts import make_spec, png, read_all, refused

IMAGES, LABELS = (array[:30] for array in make_splits()["train"])


def write_tree(folder: Path, pictures: list[bytes], suffix: str = "png") -> list[Path]:
    for row, (content, label) in enumerate(zip(pictures, LABELS, strict=False)):
        path = folder / str(label) / f"{row:03}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return [folder]


def saved(image: Any, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, name, **options)
    return file.getvalue()


@pytest.mark.parametrize(("name", "most"), [("BMP", 0), ("GIF", 0), ("JPEG", 12)])
def test_other_formats_are_read_as_gray(name: str, most: int, tmp_path: Path) -> None:
    options = {"quality": 100} if name == "JPEG" else {}
    files = write_tree(tmp_path, [saved(image, name, **options) for image in IMAGES], name.lower())
    defects = Defects()

    (chunk,) = read_chunks(files, make_spec("folder"), defects)

    # JPEG changes pixels a little even at its best.
    assert np.abs(chunk.images.astype(int) - IMAGES).max() <= most
    assert not defects.found
    assert any("JPEG loses detail" in note for note in defects.notes) == (name == "JPEG")


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(image) for image in IMAGES[:2]]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    files = write_tree(tmp_path, [file.getvalue()])

    assert "is an animation, expected a single image" in refused("folder", files)


def test_a_large_picture_of_another_format_is_not_decoded(tmp_path: Path) -> None:
    content = saved(np.zeros((2000, 2000), np.uint8), "JPEG")
    files = write_tree(tmp_path, [content])

    assert "is an image of 2,000 x 2,000 pixels, expected 12 x 12" in refused("folder", files)


@pytest.mark.parametrize("top", [1023, 4095, 50000])
def test_16_bits_are_scaled_by_the_range_of_the_dataset(top: int, tmp_path: Path) -> None:
    deep = np.rint(IMAGES.astype(float) * top / 255).astype(np.uint16)
    files = write_tree(tmp_path, [png(image) for image in deep])

    ((found, _, _),) = read_all("folder", files, pixel_range=[0, top])

    np.testing.assert_array_equal(found, IMAGES)


def test_pictures_of_another_depth_than_the_dataset_are_refused(tmp_path: Path) -> None:
    deep = [png((image.astype(np.uint16) << 8) | 7) for image in IMAGES]
    files = write_tree(tmp_path, deep)

    assert "expected values from 0 to 255" in refused("folder", files)

    files = write_tree(tmp_path, [png(image) for image in IMAGES])

    message = refused("folder", files, pixel_range=[0, 4095])
    assert "has 8 bits per pixel, expected 16, with values up to 4095" in message


def test_pictures_of_both_depths_are_refused(tmp_path: Path) -> None:
    low = IMAGES.astype(np.uint16)
    pictures = [png(low[row] if row == 20 else IMAGES[row]) for row in range(30)]
    files = write_tree(tmp_path, pictures)

    message = refused("folder", files)

    assert "020.png has 16 bits per pixel, but" in message
    assert "one depth" in message


def test_16_bits_of_color_are_refused_rather_than_halved(tmp_path: Path) -> None:
    content = bytearray(png(IMAGES[0].astype(np.uint16)))
    content[25] = 2  # RGB
    files = write_tree(tmp_path, [bytes(content)])

    assert "has 16 bits per color" in refused("folder", files)
