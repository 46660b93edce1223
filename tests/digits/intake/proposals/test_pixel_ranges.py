"""The range of pixel values: usual ones are recognized and named, others are refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.datasets.formats.chunks import RawChunk
from digits.datasets.formats.cleaning import to_pixels
from digits.errors import DataError
from digits.intake.proposals.pixel_ranges import SeenValues, recognized
from digits.intake.proposals.proposal import Proposal, Wishes, propose
from digits.labeling.centering import centered
from digits.settings import Settings
from tests.support.handwriting import Splits, make_splits
from tests.support.layouts import png, write_npz

GRAYS = np.arange(256)
"""All values of 8 bits."""


def range_of(values: Any) -> tuple[tuple[float, float], str]:
    array = np.asarray(values).reshape(1, 1, -1)
    seen = SeenValues()
    seen.add(RawChunk(array, np.zeros(1), None, ["a row"]))
    return recognized(seen)


STANDARDIZED = (GRAYS / 255 - 0.1307) / 0.3081
USUAL = {
    "bool": (GRAYS > 127, (0, 1), "two levels"),
    "fractions": (GRAYS / 255, (0, 1), "fractions"),
    "fractions of 16 bits": ((GRAYS / 255).astype(np.float16), (0, 1), "fractions"),
    "fractions with noise": (GRAYS / 255 * 1.000002 - 1e-6, (0, 1), "fractions"),
    "fractions of 256": (GRAYS / 256, (0, 0.996094), "fractions, up to 0.996094"),
    "from -1 to 1": (GRAYS / 127.5 - 1, (-1, 1), "fractions from -1 to 1"),
    "around 0": (GRAYS.astype(np.float32) / 255 - 0.5, (-0.5, 0.5), "fractions around 0"),
    "8 bits": (GRAYS.astype(np.uint8), (0, 255), "8 bits"),
    "8 bits as floats": (GRAYS + 0.25 * (GRAYS < 255), (0, 255), "8 bits"),
    "percent": (GRAYS / 2.55, (0, 100), "percent"),
    "4 bits": (GRAYS // 16, (0, 15), "4 bits"),
    "9 bits": (GRAYS * 511 // 255, (0, 511), "9 bits"),
    "10 bits": ((GRAYS * 1023 // 255).astype(np.uint16), (0, 1023), "10 bits"),
    "8 of 12 bits": (GRAYS * 16, (0, 4080), "12 bits, up to 4080"),
    "few of 8 of 12 bits": (np.array([0, 16, 4080]), (0, 4080), "12 bits, up to 4080"),
    "8 of 16 bits": (GRAYS * 256, (0, 65280), "16 bits, up to 65280"),
    "14 bits": (GRAYS * 16383 / 255, (0, 16383), "14 bits"),
    "16 bits": ((GRAYS * 257).astype(np.uint16), (0, 65535), "16 bits"),
    "standardized": (STANDARDIZED, (-0.424213, 2.82149), "standardized with MNIST's"),
    "standardized in single precision": (
        STANDARDIZED.astype(np.float32),
        (-0.424213, 2.82149),
        "standardized with MNIST's",
    ),
    "standardized in half precision": (
        STANDARDIZED.astype(np.float16),
        (-0.424213, 2.82149),
        "standardized with MNIST's",
    ),
    "standardized with more digits": (
        (GRAYS / 255 - 0.13066) / 0.30811,
        (-0.424213, 2.82149),
        "standardized with MNIST's",
    ),
}


@pytest.mark.parametrize("name", USUAL)
def test_a_usual_range_is_recognized_and_keeps_every_gray_level(name: str) -> None:
    values, expected, about = USUAL[name]

    found, words = range_of(values)
    pixels = to_pixels(np.asarray(values), found)

    assert found == pytest.approx(expected)
    assert words.startswith(about)
    assert len(np.unique(pixels)) == len(np.unique(values))
    assert (np.diff(pixels.astype(int)) >= 0).all()
    assert (pixels[0], pixels[-1]) == (0, 255)


def test_12_bits_need_not_reach_the_end() -> None:
    assert range_of(np.arange(4061)) == ((0, 4095), "12 bits")


UNUSUAL = {
    "other standardization": ((GRAYS - 72.9) / 90.0, "-0.81 to 2.02333"),
    "mean subtracted": (GRAYS - 61.5, "-61.5 to 193.5"),
    "seventeen steps": (np.arange(18), "0 to 17"),
    "a thousand": (np.arange(1001), "0 to 1000"),
    "half of 8 bits": (GRAYS // 2, "0 to 127"),
    "faint fractions": (GRAYS / 1000, "0 to 0.255"),
    "signed bytes": ((GRAYS - 128).astype(np.int8), "-128 to 127"),
    "from -255": (np.arange(-255, 256), "-255 to 255"),
    "more than 16 bits": (GRAYS * 4000, "0 to 1.02e+06"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_another_range_is_refused_with_its_extremes_and_the_option(name: str) -> None:
    values, extremes = UNUSUAL[name]

    with pytest.raises(DataError) as caught:
        range_of(values)

    low, high = extremes.split(" to ")
    assert f"pixel values {extremes}: no usual range" in str(caught.value)
    assert f"--pixel-range {low} {high}" in str(caught.value)


def test_bytes_that_may_be_signed_by_mistake_are_named() -> None:
    with pytest.raises(DataError, match=re.escape('x.view("uint8")')):
        range_of(np.arange(-128, 128))


def look(settings: Settings, place: Path, **wishes: Any) -> Proposal:
    return propose("mine", place, Wishes(**wishes), settings, centered)


def test_init_says_the_convention_or_takes_the_given_range(
    settings: Settings, tmp_path: Path
) -> None:
    splits = make_splits()
    forms = {f"x_{split}": images / 250 - 0.1 for split, (images, _) in splits.items()}
    (tmp_path / "files").mkdir()
    write_npz(tmp_path / "files", splits, **forms)

    with pytest.raises(DataError, match=r"add --pixel-range -0\.1 0\.92"):
        look(settings, tmp_path / "files")
    given = look(settings, tmp_path / "files", pixel_range=(-0.1, 0.92))

    assert given.spec.pixel_range == (-0.1, 0.92)
    assert "-0.1 to 0.92 (as given)" in given.assumptions()["pixels"]
    assert given.facts()["pixel_convention"] == "as given"


def write_tree(folder: Path, images: Any, labels: Any) -> None:
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{row:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def pictures(top: int) -> tuple[Any, Any]:
    """Images of 16 bits per pixel with values up to `top`."""
    images, labels = make_splits()["train"]
    return np.rint(images.astype(float) * top / 255).astype(np.uint16), labels


@pytest.mark.parametrize(
    ("top", "expected"), [(255, 255), (1023, 1023), (4095, 4095), (65535, 255)]
)
def test_pictures_of_16_bits_have_the_range_of_their_values(
    top: int, expected: int, settings: Settings, tmp_path: Path
) -> None:
    images, labels = pictures(top)
    write_tree(tmp_path / "files", images[:300], labels[:300])

    proposal = look(settings, tmp_path / "files", test_share=0.3)

    # Whole multiples of 257 were made from 8 bits, and are 8-bit again.
    assert proposal.spec.pixel_range == (0, expected)


@pytest.mark.parametrize("top", [255, 4095])
def test_pictures_of_8_and_of_few_of_16_bits_do_not_mix(
    top: int, settings: Settings, tmp_path: Path
) -> None:
    deep, labels = pictures(top)
    shallow, _ = make_splits()["train"]
    write_tree(tmp_path / "files", [*shallow[:150], *deep[150:300]], labels[:300])

    with pytest.raises(DataError, match=r"0150\.png has 16 bits per pixel, but .*\.png has 8"):
        look(settings, tmp_path / "files")


def test_pictures_of_8_and_of_all_of_16_bits_have_one_scale(
    settings: Settings, tmp_path: Path
) -> None:
    splits: Splits = {"train": make_splits()["train"]}
    images, labels = splits["train"]
    deep = images.astype(np.uint16) * 257
    deep[:, 0, 0] = 300
    write_tree(tmp_path / "files", [*images[:150], *deep[150:300]], labels[:300])

    proposal = look(settings, tmp_path / "files", test_share=0.3)

    assert proposal.spec.pixel_range == (0, 65535)
    assert sum(proposal.counts.values()) == 300
