import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from digits.datasets.defects import DefectError
from digits.datasets.sources.idx import format_idx
from digits.errors import DataError
from digits.spec import ROLES, Role
from tests.support.archives import idx_files
from tests.support.handwriting import NUM_CLASSES, make_splits
from tests.support.layouts import read_all, refused

Files = Mapping[Role, bytes]


def files(**others: npt.NDArray[np.uint8]) -> Files:
    """The four files; `others` are arrays by role, with _ for -, that replace a file."""
    content = idx_files(make_splits())
    for role in ROLES:
        if role.replace("-", "_") in others:
            content[role] = format_idx(others[role.replace("-", "_")])
    return content


def write(folder: Path, content: Files) -> list[Path]:
    for role, array in content.items():
        (folder / f"{role}.idx").write_bytes(array)
    return sorted(folder.iterdir())


def swapped(one: Role, other: Role) -> Files:
    whole = dict(files())
    return whole | {one: whole[other], other: whole[one]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            swapped("train-images", "train-labels"),
            (
                "train-images.idx has 600 values, expected images, N x 12 x 12; these look "
                "like labels: are the two files swapped?"
            ),
        ),
        (
            files(test_labels=np.zeros((200, 12, 12), np.uint8)),
            (
                "test-labels.idx has 200 x 12 x 12 values, expected labels, one for each of "
                "200 images; these look like images"
            ),
        ),
        (
            swapped("train-images", "test-images"),
            (
                "train-images.idx has 200 images, but train-labels.idx has 600 labels, "
                "expected as many of each"
            ),
        ),
        (
            files(test_images=np.zeros((200, 28, 28), np.uint8)),
            "test-images.idx has 200 x 28 x 28 values, expected images, N x 12 x 12",
        ),
        (
            files(test_labels=np.full(200, NUM_CLASSES, np.uint8)),
            (
                "test-images.idx, row 0 has the label '10', expected one of the 10 classes "
                "0, 1 ... 9; 199 more, such as "
            ),
        ),
    ],
)
def test_files_that_are_not_images_with_their_labels_are_refused(
    content: Files, message: str, tmp_path: Path
) -> None:
    line = refused("idx", write(tmp_path, content))

    assert line.replace(f"{tmp_path}/", "").startswith(message)


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_single_pair_has_no_split(is_packed: bool, tmp_path: Path) -> None:
    for role, content in files().items():
        if role.startswith("train"):
            # The naming of EMNIST.
            path = tmp_path / f"letters-{role}-idx{'13'['images' in role]}-ubyte"
            packed = gzip.compress(content) if is_packed else content
            path.with_name(f"{path.name}{'.gz' * is_packed}").write_bytes(packed)

    images, labels, split = read_all("idx", sorted(tmp_path.iterdir()))[0]

    expected = make_splits()["train"]
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(labels, expected[1])
    assert split is None


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_labels_of_qmnist_have_the_class_in_the_first_of_eight_columns(
    is_packed: bool, tmp_path: Path
) -> None:
    images, labels = make_splits()["train"]
    rows = np.column_stack([labels, *(np.arange(len(labels)) * n for n in range(1, 8))])
    header = bytes((0, 0, 0x0C, 2)) + np.array(rows.shape, ">u4").tobytes()
    content = {"images-idx3-ubyte": format_idx(images)}
    content["labels-idx2-int"] = header + rows.astype(">i4").tobytes()
    for name, one in content.items():
        path = tmp_path / f"qmnist-train-{name}{'.gz' * is_packed}"
        path.write_bytes(gzip.compress(one) if is_packed else one)

    ((found, numbers, _),) = read_all("idx", sorted(tmp_path.iterdir()))

    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(numbers, labels)


def test_integers_are_labels_in_files_of_that_name_only(tmp_path: Path) -> None:
    paths = write(tmp_path, files())
    path = tmp_path / "train-labels.idx"
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\x0c" + content[3:])

    assert "has values of type 0x0c" in refused("idx", paths)


DAMAGE = {
    "truncated": (lambda content: content[:-7], "corrupt_file", "is truncated"),
    "too long": (lambda content: content + b"x", "corrupt_file", "has extra bytes at the end"),
    "empty": (lambda _: b"", "empty_file", "is empty"),
    "no images": (lambda _: format_idx(np.zeros((0, 12, 12))), "empty_file", "has no values"),
    "wrong format": (lambda content: b"text" + content, "corrupt_file", "is not an IDX file"),
    "a web page": (lambda content: b"<html>" + content, "file_type", "is a web page"),
    "wrong type": (
        lambda content: content[:2] + b"\x0d" + content[3:],
        "value_type",
        "has values of type 0x0d",
    ),
    "wrong byte order": (
        lambda content: np.frombuffer(content[:16], "<u4").byteswap().tobytes() + content[16:],
        "byte_order",
        "has the wrong byte order: it starts with 03080000, expected 00000803",
    ),
}


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupted_file_is_named_with_its_problem(
    damage: str, is_packed: bool, tmp_path: Path
) -> None:
    change, check, message = DAMAGE[damage]
    paths = write(tmp_path, files())
    path = tmp_path / "test-images.idx"
    content = change(path.read_bytes())
    if is_packed:
        path.unlink()
        path = path.with_suffix(".idx.gz")
        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)

    with pytest.raises(DefectError, match=message) as caught:
        read_all("idx", sorted(tmp_path.iterdir()))

    assert len(paths) == 4
    assert caught.value.check == check
    assert str(caught.value).startswith(str(path))


def test_images_without_a_labels_file_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, files())

    with pytest.raises(DataError, match=r"test-images.idx has no labels file"):
        read_all("idx", [path for path in paths if path.name != "test-labels.idx"])
