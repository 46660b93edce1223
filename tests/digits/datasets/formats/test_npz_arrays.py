"""An .npz whose arrays have channels, and labels of other forms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.handwriting import NUM_CLASSES, make_splits
from tests.support.layouts import read_all, refused

IMAGES, LABELS = (array[:90] for array in make_splits()["train"])


def read(folder: Path, images: Any, labels: Any, **spec: Any) -> tuple[Any, Any]:
    np.savez(folder / "x.npz", x_train=images, y_train=labels)
    ((found, classes, _),) = read_all("npz", [folder / "x.npz"], **spec)
    return found, classes


CHANNELS = {
    "one, last": IMAGES[..., None],
    "one, first": IMAGES[:, None],
    "three equal, last": np.repeat(IMAGES[..., None], 3, axis=3),
    "three equal, first": np.repeat(IMAGES[:, None], 3, axis=1),
    "opaque": np.concatenate(
        [np.repeat(IMAGES[..., None], 3, axis=3), np.full((*IMAGES.shape, 1), 255, np.uint8)],
        axis=3,
    ),
}


@pytest.mark.parametrize("form", CHANNELS)
def test_equal_channels_are_one_gray_image(form: str, tmp_path: Path) -> None:
    found, _ = read(tmp_path, CHANNELS[form], LABELS)

    np.testing.assert_array_equal(found, IMAGES)


def test_color_is_refused_with_the_conversion(tmp_path: Path) -> None:
    images = np.repeat(IMAGES[..., None], 3, axis=3)
    images[40, 3, 3, 1] ^= 1
    np.savez(tmp_path / "x.npz", x_train=images, y_train=LABELS)

    message = refused("npz", [tmp_path / "x.npz"])

    assert "x_train, row 40 has color or transparency" in message
    assert "Image.convert('L')" in message


TEXTS = np.array([f"class {number}" for number in range(NUM_CLASSES)])
FORMS = {
    "a column": (LABELS[:, None], {}),
    "one-hot": (np.eye(NUM_CLASSES)[LABELS], {}),
    "one-hot booleans": (np.eye(NUM_CLASSES, dtype=bool)[LABELS], {}),
    "big-endian": (LABELS.astype(">i4"), {}),
    "text": (TEXTS[LABELS], {"class_names": TEXTS.tolist()}),
    "bytes": (TEXTS[LABELS].astype("S"), {"class_names": TEXTS.tolist()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_may_have_any_usual_form(form: str, tmp_path: Path) -> None:
    labels, spec = FORMS[form]

    _, classes = read(tmp_path, IMAGES, labels, **spec)

    np.testing.assert_array_equal(classes, LABELS)


def test_several_labels_for_an_image_are_refused(tmp_path: Path) -> None:
    labels = np.column_stack([LABELS, LABELS + 10])
    np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=labels)

    assert "2 labels for each image, which are not one-hot" in refused("npz", [tmp_path / "x.npz"])
