"""All arrays of .npz and .npy files are read in pairs, or those that would not be are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.intake.batch_files import read_rows
from tests.support.handwriting import make_splits
from tests.support.layouts import make_spec, read_all, refused

IMAGES, LABELS = (array[:60] for array in make_splits()["train"])


def arrays(**names: str) -> dict[str, Any]:
    """Arrays by name: "images 0 20" are those from 0 to 20."""
    whole = {"images": IMAGES, "labels": LABELS}
    split = {name: what.split() for name, what in names.items()}
    return {name: whole[kind][int(a) : int(b)] for name, (kind, a, b) in split.items()}


def sizes(found: list[tuple[Any, Any, Any]]) -> dict[str | None, int]:
    return {split: len(labels) for _, labels, split in found}


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_valid", "Y_valid", "X_test", "Y_test"),
        ("trainX", "trainY", "devX", "devY", "testX", "testY"),
    ],
)
def test_a_third_split_is_training_data_or_is_left_out(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    spans = ("0 20", "0 20", "20 35", "20 35", "35 60", "35 60")
    kinds = ("images", "labels") * 3
    path = tmp_path / "x.npz"
    what = (f"{kind} {span}" for kind, span in zip(kinds, spans, strict=True))
    np.savez(path, **arrays(**dict(zip(names, what, strict=True))))

    assert sizes(read_all("npz", [path])) == {"train": 35, "test": 25}
    assert sizes(read_all("npz", [path], validation="leave-out")) == {"train": 20, "test": 25}


def test_a_batch_keeps_a_third_split_whatever_the_spec_says(tmp_path: Path) -> None:
    path = tmp_path / "march.npz"
    names = {"x_train": "images 0 20", "y_train": "labels 0 20"}
    names |= {"x_val": "images 20 35", "y_val": "labels 20 35"}
    np.savez(path, **arrays(**names))

    rows, findings = read_rows([path], make_spec("npz", validation="leave-out"))

    assert rows is not None
    assert (len(rows.labels), findings) == (35, [])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("classes", "has classes, x_train, y_train: classes would not be read"),
        ("x_extra", "has x_extra, x_train, y_train, but no y_extra"),
        ("Y_Train", "has both "),
        ("arr_0", "has arrays without names (arr_0, x_train, y_train)"),
    ],
)
def test_an_array_that_would_not_be_read_is_named(extra: str, message: str, tmp_path: Path) -> None:
    names = {extra: "labels 0 20", "x_train": "images 0 20", "y_train": "labels 0 20"}
    if extra == "x_extra":
        names[extra] = "images 20 35"
    np.savez(tmp_path / "x.npz", **arrays(**dict(sorted(names.items()))))

    assert message in refused("npz", [tmp_path / "x.npz"])


def test_arrays_may_be_spread_over_files_of_their_own(tmp_path: Path) -> None:
    spans = {"train": slice(0, 40), "test": slice(40, 60)}
    for split, span in spans.items():
        np.savez(tmp_path / f"kuzushiji-{split}-imgs.npz", IMAGES[span])
        np.savez(tmp_path / f"kuzushiji-{split}-labels.npz", LABELS[span])
        (tmp_path / "npy").mkdir(exist_ok=True)
        np.save(tmp_path / "npy" / f"x_{split}.npy", IMAGES[span].reshape(-1, 144))
        np.save(tmp_path / "npy" / f"y_{split}.npy", LABELS[span])

    for files in (sorted(tmp_path.glob("*.npz")), sorted((tmp_path / "npy").iterdir())):
        found = read_all("npz", files)

        assert sizes(found) == {"train": 40, "test": 20}
        np.testing.assert_array_equal(found[0][0], IMAGES[:40])
        np.testing.assert_array_equal(found[1][1], LABELS[40:])


def test_several_archives_of_a_batch_are_all_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "march.npz", x=IMAGES[:20], y=LABELS[:20])
    np.savez(tmp_path / "april.npz", images=IMAGES[20:], labels=LABELS[20:])

    rows, findings = read_rows([tmp_path], make_spec("npz"))

    assert rows is not None
    assert (len(rows.labels), findings) == (60, [])


def test_a_single_array_needs_its_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", IMAGES)

    assert "is a single array, expected a second file" in refused("npz", [tmp_path / "digits.npy"])
