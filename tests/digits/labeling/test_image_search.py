"""Folders are searched for images, and nothing in them is passed over in silence."""

from pathlib import Path

import pytest
from PIL import Image

from digits.labeling.image_search import Passed, find_files
from tests.support.permissions import mode


def search(*arguments: Path) -> tuple[list[str], Passed]:
    passed = Passed()
    return [Path(file).name for file in find_files(map(str, arguments), passed)], passed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def test_images_of_every_suffix_are_found(folder: Path) -> None:
    names = [f"a.{suffix}" for suffix in ("JPE", "bmp", "gif", "jfif", "png", "tiff", "webp")]
    for name in names:
        (folder / name).touch()

    found, passed = search(folder)

    assert found == names
    assert passed.is_complete
    assert passed.sentences() == []


def test_images_under_other_names_are_found_by_their_first_bytes(folder: Path) -> None:
    for name, kind in {"no suffix": "PNG", "photo.1": "JPEG", "scan.old": "TIFF"}.items():
        Image.new("L", (9, 9)).save(folder / name, kind)

    assert search(folder)[0] == ["no suffix", "photo.1", "scan.old"]


def test_other_files_are_counted_by_suffix(folder: Path) -> None:
    for name in ("1.png", "1.heic", "2.HEIC", "notes.txt", "README"):
        (folder / name).write_text("text")

    found, passed = search(folder)

    assert found == ["1.png"]
    assert passed.is_complete
    assert passed.num_files == 4
    (sentence,) = passed.sentences()
    assert "2 .heic, 1 without a suffix, 1 .txt" in sentence


def test_files_of_operating_systems_are_not_counted(folder: Path) -> None:
    for name in ("1.png", "Thumbs.db", "desktop.ini", ".DS_Store", "._1.png", "__MACOSX/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()

    found, passed = search(folder)

    assert found == ["1.png"]
    assert passed.num_files == 0


def test_a_folder_without_images_is_named(folder: Path) -> None:
    (folder / "notes.txt").touch()

    found, passed = search(folder)

    assert found == []
    assert not passed.is_complete
    assert f"{folder}: contains no images" in passed.sentences()


def test_an_unreadable_folder_is_named_and_the_others_are_searched(folder: Path) -> None:
    (folder / "1.png").touch()
    (folder / "closed").mkdir()

    with mode(folder / "closed", 0):
        found, passed = search(folder)

    assert found == ["1.png"]
    assert not passed.is_complete
    assert passed.sentences() == [f"{folder / 'closed'}: cannot be read: Permission denied"]


def test_a_link_to_a_folder_is_counted_and_not_followed(folder: Path) -> None:
    (folder / "1.png").touch()
    (folder / "loop").symlink_to(folder)

    found, passed = search(folder)

    assert found == ["1.png"]
    assert passed.suffixes == {"links to folders": 1}
