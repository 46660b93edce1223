from pathlib import Path

import pytest

from digits.datasets.sources.file_layouts import detect_layout, files_in
from digits.errors import DataError
from digits.layouts import LAYOUTS
from tests.support.handwriting import make_splits
from tests.support.layouts import WRITERS

SPLITS = {split: (images[:9], labels[:9]) for split, (images, labels) in make_splits().items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_folder_and_of_its_files_is_detected(layout: str, tmp_path: Path) -> None:
    files = WRITERS[layout](tmp_path, SPLITS)

    assert detect_layout([tmp_path]) == layout
    assert detect_layout(files) == layout
    assert sorted(files_in(tmp_path, layout)) == sorted(files)
    assert all(files_in(tmp_path, other) == [] for other in set(LAYOUTS) - {layout})


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("train-images-idx3-ubyte.gz", "idx"),
        ("emnist-letters-test-labels-idx1-ubyte", "idx"),
        ("X.NPZ", "npz"),
        ("train-00000-of-00001.parquet", "parquet"),
        ("digits.csv.gz", "csv"),
    ],
)
def test_common_file_names_are_recognized(name: str, layout: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()

    assert detect_layout([tmp_path / name]) == layout


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no supported files found, expected one of idx: a pair of IDX files"),
        (("x.txt", ".hidden.csv"), "no supported files found"),
        (("x.csv", "x.npz"), r"files of several layouts found \(csv, npz\)"),
    ],
)
def test_an_ambiguous_layout_is_rejected(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()

    with pytest.raises(DataError, match=message):
        detect_layout([tmp_path])
