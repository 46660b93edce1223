from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits.datasets.images import Images
from digits.errors import DataError
from digits.intake import corrections as module
from digits.intake.corrections import (
    Correction,
    FullError,
    Outcome,
    class_folders,
    corrections,
    corrections_folder,
    keep_correction,
    label_of,
    read_correction,
)
from digits.intake.incoming import waiting
from digits.settings import Settings
from digits.spec import Layout
from tests.support.small_dataset import NAME, small_layout

LAYOUT = small_layout()


def image(seed: int = 1) -> Images:
    return np.random.default_rng(seed).integers(0, 256, LAYOUT.image_shape, np.uint8)


def keep(settings: Settings, label: int, seed: int = 1) -> Outcome:
    return keep_correction(Correction(image(seed), label, 8, version=2), LAYOUT, settings)


def kept(settings: Settings) -> list[str]:
    root = corrections_folder(NAME, settings)
    return [path.parent.relative_to(root).name for path in corrections(NAME, settings)]


def test_a_correction_is_a_picture_in_the_folder_of_its_class_with_what_was_answered(
    settings: Settings,
) -> None:
    outcome = keep(settings, 3)

    (path,) = corrections(NAME, settings)
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), image())
        about = {key: value for key, value in picture.info.items() if key != "time"}
    assert outcome == "kept"
    assert path.parent == corrections_folder(NAME, settings) / "3"
    assert about == {"dataset": NAME, "version": "2", "predicted": "8"}


def test_the_same_pixels_are_kept_once_with_the_last_label(settings: Settings) -> None:
    outcomes = [keep(settings, 3), keep(settings, 3), keep(settings, 5), keep(settings, 5, seed=2)]

    assert outcomes == ["kept", "known", "changed", "kept"]
    assert kept(settings) == ["5", "5"]


def test_no_run_adds_a_correction_by_itself(settings: Settings) -> None:
    keep(settings, 3)

    assert waiting(NAME, settings) == []


def test_a_flood_of_corrections_ends_at_a_bound(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CORRECTIONS", 2)
    for seed in (1, 2):
        keep(settings, 3, seed)

    with pytest.raises(
        FullError, match=r"2 corrections of handwriting wait already; .*feedback add"
    ):
        keep(settings, 3, seed=3)
    assert keep(settings, 4, seed=2) == "changed"


def test_a_blank_picture_is_refused(settings: Settings) -> None:
    blank = Correction(np.zeros(LAYOUT.image_shape, np.uint8), 3, 8, version=2)

    with pytest.raises(DataError, match="has no ink"):
        keep_correction(blank, LAYOUT, settings)


@pytest.mark.parametrize(
    "name", ["a/b", "..", "", ".x", "desktop.ini", "train", "x" * 300, " a", "a\0"]
)
def test_a_class_whose_name_no_folder_can_have_has_a_folder_nevertheless(name: str) -> None:
    layout = Layout(name=NAME, image_shape=(8, 8), num_classes=2, class_names=("K", name))
    folders = class_folders(layout)

    assert folders == ("K", "class-1")
    assert [label_of(Path("corrections") / folder, layout) for folder in folders] == [0, 1]


def test_a_folder_of_no_class_is_named(settings: Settings) -> None:
    with pytest.raises(DataError, match=r"corrections/ten: unknown class \(expected one of 0 to 9"):
        label_of(corrections_folder(NAME, settings) / "ten", LAYOUT)


@pytest.mark.parametrize(
    ("suffix", "mode", "size", "problem"),
    [
        ("png", "L", (12, 13), "is an image of 13 x 12 pixels"),
        ("png", "RGB", (12, 12), "has color"),
        ("png", "I;16", (12, 12), "is no such picture"),
        ("jpeg", "L", (12, 12), "is no such picture"),
    ],
)
def test_only_pictures_as_the_model_sees_them_are_read(
    suffix: str, mode: str, size: tuple[int, int], problem: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 100)
    elif mode != "RGB":
        picture = picture.convert(mode)
    picture.save(tmp_path / f"a.{suffix}")

    with pytest.raises(DataError, match=f"image: {problem}.* 8-bit PNG of 12 x 12 pixels"):
        read_correction((tmp_path / f"a.{suffix}").read_bytes(), "image", (12, 12))
