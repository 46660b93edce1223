"""Labels as text: equal labels compare equal, whatever their spelling."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.formats.label_text import as_number, as_text
from tests.support.handwriting import make_splits
from tests.support.layouts import read_all, write_csv


@pytest.mark.parametrize("text", ["7", "07", "+7", " 7", "7.", "7.0e+00", "70e-1", "7.000"])
def test_what_float_reads_as_a_whole_number_is_that_number(text: str) -> None:
    assert as_number(text) == 7


@pytest.mark.parametrize("text", ["7.5", "seven", "", "nan", "inf", "#7", "0x7", "7 8"])
def test_anything_else_is_no_number(text: str) -> None:
    assert as_number(text) is None


def test_text_is_composed_and_without_spaces_around_it() -> None:
    decomposed = unicodedata.normalize("NFD", "Zürich")

    assert as_text(f" {decomposed}\t") == "Zürich"
    assert as_text(decomposed.encode()) == "Zürich"


def test_bytes_that_are_not_utf_8_are_escaped() -> None:
    assert as_text("na\udcefve") == "na\\xefve"
    assert as_text(b"na\xefve") == "na\\xefve"
    assert as_text("\ud800").encode()


@pytest.mark.parametrize(("label", "expected"), [(True, "1"), (np.int64(3), "3"), (2.0, "2.0")])
def test_numbers_become_text(label: object, expected: str) -> None:
    assert as_text(label) == expected


def test_every_spelling_of_a_class_is_read(tmp_path: Path) -> None:
    splits = {"train": make_splits()["train"]}
    (path,) = write_csv(tmp_path, splits, header=False)
    spellings = ["{}", " +{}", "{}.0", "{}e0", "0{}.00"]
    rows = [line.split(",", 1) for line in path.read_text().splitlines()]
    lines = [
        f"{spellings[row % len(spellings)].format(label)},{pixels}"
        for row, (label, pixels) in enumerate(rows)
    ]
    path.write_text("\n".join(lines))

    ((_, labels, _),) = read_all("csv", [path])

    np.testing.assert_array_equal(labels, splits["train"][1])


def test_class_names_compare_composed(tmp_path: Path) -> None:
    names = tuple(f"{number}é" for number in range(10))
    splits = {"train": make_splits()["train"]}
    (path,) = write_csv(tmp_path, splits, header=False)
    rows = [line.split(",", 1) for line in path.read_text().splitlines()]
    form = ("NFC", "NFD")
    lines = [
        f"{unicodedata.normalize(form[row % 2], names[int(label)])},{pixels}"
        for row, (label, pixels) in enumerate(rows)
    ]
    path.write_text("\n".join(lines))

    ((_, labels, _),) = read_all("csv", [path], class_names=names)

    np.testing.assert_array_equal(labels, splits["train"][1])
