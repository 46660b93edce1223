"""Of the files at a place, all are read, or what would be left out is named."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from digits.datasets.files.file_layouts import (
    batch_files,
    dataset_files,
    detect_layout,
    files_in,
    not_read,
    splits_of,
)
from digits.errors import DataError
from digits.layouts import LAYOUTS
from tests.support.handwriting import make_splits
from tests.support.layouts import WRITERS

SPLITS = {split: (images[:9], labels[:9]) for split, (images, labels) in make_splits().items()}
IDX = ("train-images.idx", "train-labels.idx", "test-images.idx", "test-labels.idx")


def touched(root: Path, *names: str) -> list[Path]:
    """Create empty files below a folder; a name that ends with a slash is a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    return [root / name for name in names]


def chosen(place: Path, root: Path) -> list[str]:
    files = dataset_files(detect_layout([place]), place)
    return sorted(path.relative_to(root).as_posix() for path in files)


def refusal(place: Path) -> str:
    with pytest.raises(DataError) as caught:
        dataset_files(detect_layout([place]), place)
    return str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_folder_and_of_its_files_is_detected(layout: str, tmp_path: Path) -> None:
    files = WRITERS[layout](tmp_path, SPLITS)

    assert detect_layout([tmp_path]) == layout
    assert detect_layout(files) == layout
    assert sorted(files_in(tmp_path, layout)) == sorted(files)
    assert all(files_in(tmp_path, other) == [] for other in set(LAYOUTS) - {layout})
    assert batch_files([tmp_path]) == (layout, sorted(files))
    assert sorted(dataset_files(layout, tmp_path)) == sorted(files)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("train-images-idx3-ubyte.gz", "idx"),
        ("emnist-letters-test-labels-idx1-ubyte", "idx"),
        ("qmnist-train-labels-idx2-int.gz", "idx"),
        ("t10k-images.idx3", "idx"),
        ("X.NPZ", "npz"),
        ("x_train.npy", "npz"),
        ("train-00000-of-00001.parquet", "parquet"),
        ("train.pq", "parquet"),
        ("digits.csv.gz", "csv"),
        ("digits.tsv", "csv"),
        ("picture.JPG", "folder"),
    ],
)
def test_common_file_names_are_recognized(name: str, layout: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()

    assert detect_layout([tmp_path / name]) == layout


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no supported files found, expected one of idx: a pair of IDX files"),
        (("x.txt", ".hidden.csv"), r"no supported files found, only .*x.txt \(if it is a table"),
        (("x.zip",), r"only .*x.zip \(unpack it\)"),
        (("x.csv", "x.npz"), r"files of several layouts found \(csv, npz\), for example csv: /"),
        (("x.csv", "images/1.png"), r"several layouts found \(csv, folder\), .*folder: .*/images;"),
    ],
)
def test_an_ambiguous_layout_is_rejected(
    names: Sequence[str], message: str, tmp_path: Path
) -> None:
    touched(tmp_path, *names)

    with pytest.raises(DataError, match=message):
        detect_layout([tmp_path])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hidden_and_operating_systems_files_are_ignored_everywhere(
    layout: str, tmp_path: Path
) -> None:
    files = WRITERS[layout](tmp_path, SPLITS)
    for folder in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
        touched(folder, "Thumbs.db", "desktop.ini", ".DS_Store", "._1.png", "Icon\r")
        touched(folder, "@eaDir/1.png", "__MACOSX/0/._1.png", "empty/")

    assert sorted(dataset_files(layout, tmp_path)) == sorted(files)
    assert batch_files([tmp_path])[0] == layout


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (("part1.csv", "part2.txt"), "part2.txt"),
        (("a.csv", "a.csv.part"), "a.csv.part"),
        (("a.npz", "more/labels.txt"), "more/labels.txt"),
        (("a.parquet", "_delta_log/0.json"), "_delta_log/0.json"),
        (("a.csv", "README.md"), "README.md"),
        (("0/a.png", "1/b.png", "labels.json"), "labels.json"),
        (("0/a.png", "LICENSE"), "LICENSE"),
    ],
)
def test_a_batch_with_a_file_that_would_be_left_out_is_refused(
    names: Sequence[str], left: str, tmp_path: Path
) -> None:
    touched(tmp_path, *names)

    with pytest.raises(DataError, match=rf"1 entry that would not be read as \w+: .*{left}"):
        batch_files([tmp_path])


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "readme.txt", "CITATION.cff"])
def test_documents_beside_a_dataset_stay_and_are_mentioned(name: str, tmp_path: Path) -> None:
    _, document = touched(tmp_path, "digits.npz", name)

    assert chosen(tmp_path, tmp_path) == ["digits.npz"]
    assert not_read("npz", tmp_path) == [document]


def test_a_named_file_stands_for_its_set(tmp_path: Path) -> None:
    for name in ("usps", "usps-small", "letters"):
        touched(tmp_path, *(f"{name}-{file}" for file in IDX), f"{name}-mapping.txt")

    assert chosen(tmp_path / "usps-train-images.idx", tmp_path) == sorted(
        f"usps-{file}" for file in IDX
    )
    message = refusal(tmp_path)
    assert "has 3 sets of files (letters: letters-t" in message
    assert "usps-small: usps-small-t" in message
    assert f"such as {tmp_path}/letters-t" in message


@pytest.mark.parametrize(
    "names",
    [
        ("usps-train.csv", "usps-test.csv", "letters-train.csv", "letters-test.csv"),
        ("usps.npz", "letters.npz"),
        ("a-train-images.idx", "b-train-images.idx", "b-train-labels.idx"),
        ("train-images.idx", "train-labels.idx", "protest-images.idx", "protest-labels.idx"),
        ("train.csv", "trainSample.csv"),
        ("one-x.npy", "one-y.npy", "two-x.npy", "two-y.npy"),
    ],
)
def test_several_sets_are_refused_and_listed(names: Sequence[str], tmp_path: Path) -> None:
    touched(tmp_path, *names)

    assert "has 2 sets of files" in refusal(tmp_path)


def test_parts_are_one_set(tmp_path: Path) -> None:
    names = ["data-aa.csv", "data-ab.csv", "data-ac.csv"]
    touched(tmp_path, *names)

    assert chosen(tmp_path, tmp_path) == names


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "test.csv", "more.csv"),
        ("digits.parquet", "test.parquet"),
        ("images.idx", "labels.idx", "test-images.idx", "test-labels.idx"),
    ],
)
def test_a_split_in_some_names_only_is_refused(names: Sequence[str], tmp_path: Path) -> None:
    touched(tmp_path, *names)

    assert "states no split, but" in refusal(tmp_path)


def test_a_part_of_the_shards_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, "train-00000-of-00003.parquet", "train-00002-of-00003.parquet")

    assert "is one of 2 files, expected 3 according to its name" in refusal(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train.parquet/part-00000-1c2d.snappy.parquet", "test.parquet/part-00000-77ab.parquet"),
        ("label=0/part-0.parquet", "label=1/part-0.parquet"),
        ("split=train/label=0/a.parquet", "split=test/label=0/a.parquet"),
        ("train/part-0.csv", "test/part-0.csv"),
        ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"),
        ("images-idx3-ubyte/images-idx3-ubyte", "labels-idx1-ubyte/labels-idx1-ubyte"),
    ],
)
def test_files_in_folders_that_only_name_them_are_found(
    names: Sequence[str], tmp_path: Path
) -> None:
    touched(tmp_path, *names, "_SUCCESS", f"{Path(names[0]).parent}/._part.crc")
    touched(tmp_path, f"{Path(names[0]).parent}/_metadata")

    assert chosen(tmp_path, tmp_path) == sorted(names)
    assert batch_files([tmp_path])[1] == sorted(tmp_path / name for name in names)


def test_a_folder_named_like_its_file_stands_for_the_set(tmp_path: Path) -> None:
    names = [f"{name}/{name}" for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")]
    touched(tmp_path, *names)

    assert chosen(tmp_path / "t10k-images-idx3-ubyte", tmp_path) == names


def test_several_folders_of_files_are_refused_and_listed(tmp_path: Path) -> None:
    touched(tmp_path, "new/digits.csv", "old/digits.csv")

    assert f"has data in 2 folders ({tmp_path}/new, {tmp_path}/old)" in refusal(tmp_path)


def test_the_right_folder_beside_a_wrong_one_is_named(tmp_path: Path) -> None:
    touched(tmp_path, "docs/index.html", "files/digits.npz")

    assert f"files of a supported layout are in {tmp_path}/files" in refusal(tmp_path / "docs")


def test_other_splits_beside_a_named_one_are_mentioned(tmp_path: Path) -> None:
    touched(tmp_path, "train.csv", "test.csv", "notes.txt")
    touched(tmp_path, "tree/train/0/a.png", "tree/test/0/a.png", "tree/more/0/a.png")

    assert not_read("csv", tmp_path / "train.csv") == [tmp_path / "test.csv"]
    assert not_read("folder", tmp_path / "tree/train") == [tmp_path / "tree/test"]


def test_splits_are_stated_by_folders_below_the_place_only(tmp_path: Path) -> None:
    files = touched(tmp_path / "test", "train.parquet/p0.parquet", "val.parquet/p0.parquet")

    assert splits_of(files) == {files[0]: None, files[1]: "train"}
    assert splits_of(files[:1]) == {files[0]: None}
