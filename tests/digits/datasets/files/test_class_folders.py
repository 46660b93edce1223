"""Class folders are found at any level, and what has no place in such a tree is named."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from digits.datasets.files.class_folders import class_folders, pictures
from digits.errors import DataError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("3/a.png", "7/a.png", "drafts/"), [("3", "3", None), ("7", "7", None)]),
        (("usps/3/a.png", "usps/7/a.png"), [("usps/3", "3", None), ("usps/7", "7", None)]),
        (("7/a.png",), [("7", "7", None)]),
        (("train/3/a.png", "train/7/a.png"), [("train/3", "3", None), ("train/7", "7", None)]),
        (
            ("a/trainingSet/3/a.png", "a/testSet/3/a.png", "a/dev/3/a.png"),
            [
                ("a/dev/3", "3", "train"),
                ("a/testSet/3", "3", "test"),
                ("a/trainingSet/3", "3", "train"),
            ],
        ),
        (("train/a.png", "bus/a.png"), [("bus", "bus", None), ("train", "train", None)]),
    ],
)
def test_the_level_of_the_classes_is_found(
    names: Sequence[str], expected: list[tuple[str, str, str | None]], tmp_path: Path
) -> None:
    found = class_folders(tree(tmp_path, *names))

    assert [(folder.name, folder.label, folder.split) for folder in found] == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("3/a.png", "7/a.png", "loose.png"), "has pictures beside its class folders"),
        (("train/3/a.png", "test/1.png"), r"images without labels .* name .*/train alone"),
        (("train/3/a.png", "test/3/a.png", "unsorted/1.png"), r"class folders in .*/unsorted,"),
        (("train/1.png", "test/1.png"), r"pictures directly in .*/test, .*/train, without"),
        (("3/a.png", "3/old/a.png", "7/a.png"), r"inside class folders: .*/3/old, .*one level up"),
        (("usps/3/a.png", "other/3/a.png"), r"several trees .*/other, .*/usps, .* name one of"),
        (("t/3/a.png", "t/7/a.png", "t/loose.png"), "/t has pictures beside its class folders"),
        (("trainingSet/3/a.png", "trainingSample/3/a.png"), "has several sets of one split"),
        (("3/a.png", "7/notes.txt"), r"would not be read as folder: .*/7/notes.txt"),
    ],
)
def test_pictures_that_are_in_no_class_are_named(
    names: Sequence[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        class_folders(tree(tmp_path, *names))


def test_for_one_class_folder_the_tree_above_is_named(tmp_path: Path) -> None:
    tree(tmp_path / "tree", "3/a.png", "7/a.png")

    with pytest.raises(DataError, match=rf"{tmp_path}/tree has such folders: name it instead"):
        class_folders(tmp_path / "tree" / "3")


def test_a_link_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "3/a.png")
    (tmp_path / "7").symlink_to(tmp_path)

    with pytest.raises(DataError, match="is a second link to one folder"):
        class_folders(tmp_path)


def test_pictures_have_any_usual_suffix_or_none(tmp_path: Path) -> None:
    tree(tmp_path, "3/a.jpeg", "3/b.BMP", "7/c.png")
    (tmp_path / "7" / "0001").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "0001").write_bytes(b"\xff\xd8\xff")

    found = [(name, folder.label) for name, folder in pictures(class_folders(tmp_path))]

    assert found == [("0001", "7"), ("0001", "9"), ("a.jpeg", "3"), ("b.BMP", "3"), ("c.png", "7")]
