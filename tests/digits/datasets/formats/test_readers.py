"""Every file layout gives the same images, labels and row names."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from digits.layouts import LAYOUTS
from tests.support.handwriting import Splits
from tests.support.handwriting import make_splits as make_all
from tests.support.layouts import (
    FORMS,
    WRITERS,
    make_spec,
    png,
    read_all,
    refused,
    write_csv,
    write_folders,
    write_npz,
    write_parquet,
)


def make_splits() -> Splits:
    """Enough of the synthetic handwriting to have each class in each split."""
    return {split: (images[:90], labels[:90]) for split, (images, labels) in make_all().items()}


def is_same(found: list[tuple[Any, Any, Any]], splits: Splits) -> None:
    """Check that the rows read equal the rows written."""
    assert {split for _, _, split in found} == set(splits)
    for images, labels, split in found:
        assert (images.dtype, labels.dtype) == (np.uint8, np.uint16)
        np.testing.assert_array_equal(images, splits[split][0])
        np.testing.assert_array_equal(labels, splits[split][1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows_in_the_same_order(layout: str, tmp_path: Path) -> None:
    is_same(read_all(layout, WRITERS[layout](tmp_path, make_splits())), make_splits())


@pytest.mark.parametrize("form", FORMS)
def test_parquet_may_store_images_in_any_form(form: str, tmp_path: Path) -> None:
    is_same(read_all("parquet", write_parquet(tmp_path, make_splits(), form)), make_splits())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_of_a_single_split_have_no_split(layout: str, tmp_path: Path) -> None:
    train: Splits = {"train": make_splits()["train"]}

    ((images, labels, split),) = read_all(layout, WRITERS[layout](tmp_path, train))

    assert split is None
    np.testing.assert_array_equal(images, train["train"][0])
    np.testing.assert_array_equal(labels, train["train"][1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_row_has_a_name_that_locates_it(layout: str, tmp_path: Path) -> None:
    files = WRITERS[layout](tmp_path, make_splits())
    chunks = read_chunks(files, make_spec(layout), Defects())
    chunk = next(chunk for chunk in chunks if chunk.split == "train")
    label = int(make_splits()["train"][1][3])

    assert (
        chunk.names[3].removeprefix(f"{tmp_path}/")
        == {
            "idx": "train-images.idx, row 3",
            "npz": "digits.npz: x_train, row 3",
            "parquet": "train-00000-of-00001.parquet, row 3",
            "folder": f"train/{label}/00003.png",
            "csv": "train.csv, line 5",
        }[layout]
    )


def test_a_csv_may_be_compressed_without_a_header_and_with_any_label_column(tmp_path: Path) -> None:
    for path in write_csv(tmp_path, make_splits(), header=False):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        text = "\r\n".join(",".join([*row[1:6], row[0], *row[6:]]) for row in rows)
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
        path.unlink()

    is_same(read_all("csv", sorted(tmp_path.iterdir()), label_column=5), make_splits())


def test_pixels_may_be_named_by_their_numbers(tmp_path: Path) -> None:
    for path in write_csv(tmp_path, make_splits()):
        path.write_text(path.read_text().replace("pixel", ""))

    is_same(read_all("csv", sorted(tmp_path.iterdir())), make_splits())


def test_a_first_row_whose_class_is_named_like_a_label_column_is_not_a_header(
    tmp_path: Path,
) -> None:
    names = tuple("yjihgfedcb")
    for path in write_csv(tmp_path, make_splits(), header=False):
        rows = sorted(path.read_text().splitlines())
        path.write_text("\n".join(f"{names[int(row[0])]}{row[1:]}" for row in rows))

    found = read_all("csv", sorted(tmp_path.iterdir()), class_names=names)

    assert {len(labels) for _, labels, _ in found} == {90}
    assert all(labels[0] == 0 for _, labels, _ in found)


def test_the_label_column_is_found_by_its_name(tmp_path: Path) -> None:
    for path in write_csv(tmp_path, make_splits()):
        path.write_text(path.read_text().replace("label", "what it is"))

    is_same(read_all("csv", sorted(tmp_path.iterdir()), label_column="what it is"), make_splits())
    assert "a label column named who" in refused(
        "csv", sorted(tmp_path.iterdir()), label_column="who"
    )


@pytest.mark.parametrize("layout", ["csv", "folder"])
def test_a_label_may_be_the_name_of_its_class(layout: str, tmp_path: Path) -> None:
    names = tuple("jihgfedcba")
    splits = make_splits()
    if layout == "folder":
        files = write_folders(tmp_path, splits, names="jihgfedcba")
    else:
        files = write_csv(tmp_path, splits)
        for path in files:
            head, *rows = path.read_text().splitlines()
            text = [f"{names[int(row[0])]}{row[1:]}" for row in rows]
            path.write_text("\n".join([head, *text]))

    is_same(read_all(layout, files, class_names=names), splits)


def test_class_numbers_that_do_not_start_at_0_are_names(tmp_path: Path) -> None:
    splits = make_splits()
    shifted = {split: (images, labels + 1) for split, (images, labels) in splits.items()}
    names = tuple(str(number) for number in range(1, 11))

    is_same(read_all("npz", write_npz(tmp_path, shifted), class_names=names), splits)
    assert "(label_unknown)" in refused("npz", write_npz(tmp_path, splits), class_names=names)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (0, 255, np.float64),
        (0, 255, ">u2"),
        (0, 16, np.uint8),
        (0, 16, np.float32),
        (0, 65535, "<u2"),
        (0, 65535, ">u2"),
        (0, 1, np.float32),
        (-1, 1, np.float64),
        (0, 1, np.bool_),
    ],
)
def test_values_of_any_range_become_0_to_255(
    low: int, high: int, kind: Any, tmp_path: Path
) -> None:
    images, labels = make_splits()["train"]
    if kind == np.bool_:
        images = np.where(images > 127, 255, 0).astype(np.uint8)
    elif high == 16:
        # Rounded to sixteen steps.
        images = np.rint(np.rint(images / 255 * 16) / 16 * 255).astype(np.uint8)
    values = (images / 255 * (high - low) + low).astype(np.float64)
    values = values if np.dtype(kind).kind == "f" else np.rint(values)
    np.savez(tmp_path / "x.npz", x_train=values.astype(kind), y_train=labels)

    ((found, _, _),) = read_all("npz", [tmp_path / "x.npz"], pixel_range=[low, high])

    np.testing.assert_array_equal(found, images)


def test_images_may_be_flat_or_have_a_channel(tmp_path: Path) -> None:
    images, labels = make_splits()["train"]
    for shape in ((90, 144), (90, 12, 12, 1)):
        np.savez(tmp_path / "x.npz", x_train=images.reshape(shape), y_train=labels[:, None])

        ((found, _, _),) = read_all("npz", [tmp_path / "x.npz"])

        np.testing.assert_array_equal(found, images)


def test_a_gray_image_may_be_stored_as_rgb_or_with_16_bits(tmp_path: Path) -> None:
    images, labels = make_splits()["train"]
    forms = {
        "rgb": np.stack([images[0]] * 3, axis=-1),
        "16": images[0].astype(np.uint16) * 257,
        "bits": images[0] > 127,
    }
    for name, image in forms.items():
        path = tmp_path / "tree" / str(labels[0]) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))

    ((found, _, _),) = read_all("folder", [tmp_path / "tree"])

    np.testing.assert_array_equal(found[0], images[0])
    np.testing.assert_array_equal(found[1], np.where(images[0] > 127, 255, 0))
    np.testing.assert_array_equal(found[2], images[0])


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    files = write_folders(tmp_path, make_splits())
    (files[0] / ".DS_Store").write_bytes(b"x")
    (files[0] / "train" / "3" / ".DS_Store").write_bytes(b"x")
    (files[0] / ".git" / "objects").mkdir(parents=True)

    is_same(read_all("folder", files), make_splits())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(12, 12), (9, 12)])
def test_transposed_images_are_turned_on_reading(
    layout: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    upright = {
        split: (images[:, : shape[0]], labels) for split, (images, labels) in make_splits().items()
    }
    turned = {split: (pixels.swapaxes(1, 2), labels) for split, (pixels, labels) in upright.items()}
    files = WRITERS[layout](tmp_path, turned)

    is_same(read_all(layout, files, image_shape=shape, transposed=True), upright)


@pytest.mark.parametrize("first", [1, 5])
def test_numbers_of_named_classes_count_from_the_first_label(first: int, tmp_path: Path) -> None:
    splits = make_splits()
    files = write_npz(
        tmp_path, splits, **{f"y_{split}": splits[split][1] + first for split in splits}
    )

    is_same(read_all("npz", files, class_names=tuple("abcdefghij"), first_label=first), splits)


def test_numbers_from_1_of_named_classes_are_not_taken_for_numbers_from_0(tmp_path: Path) -> None:
    splits = make_splits()
    files = write_npz(tmp_path, splits, **{f"y_{split}": splits[split][1] + 1 for split in splits})

    refusal = refused("npz", files, class_names=tuple("abcdefghij"))

    assert "has the label '10', expected one of the 10 classes a, b ... j, or 0 to 9" in refusal
    assert "if a has another number, set first_label = NUMBER in the dataset spec" in refusal
