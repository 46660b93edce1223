from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from digits.dataset import ROLES, Role
from digits.errors import DataError
from digits.idx import format_idx
from digits.rawfiles import Files, RawFile
from digits.splits import load_raw
from tests.archives import idx_files
from tests.handwriting import LAYOUT, NUM_CLASSES, make_splits


def files(**others: npt.NDArray[np.uint8]) -> Files:
    """The four files; `others` are arrays that take a role's place, with _ for -."""
    content = idx_files(make_splits())
    for role in ROLES:
        if role.replace("-", "_") in others:
            content[role] = format_idx(others[role.replace("-", "_")])
    return {role: RawFile(Path(f"raw/{role}.idx"), content[role]) for role in ROLES}


def swapped(one: Role, other: Role) -> Files:
    whole = dict(files())
    return whole | {
        one: RawFile(whole[one].path, whole[other].content),
        other: RawFile(whole[other].path, whole[one].content),
    }


def test_the_files_become_images_and_labels() -> None:
    arrays = load_raw(files(), LAYOUT)

    splits = make_splits()
    expected = (*splits["train"], *splits["test"])
    assert [array.dtype for array in arrays] == [np.uint8] * 4
    for array, original in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            swapped("train-images", "train-labels"),
            (
                "raw/train-images.idx holds 600 values, expected images, N x 12 x 12; these look "
                "like labels: are the two files swapped?"
            ),
        ),
        (
            files(test_labels=np.zeros((200, 12, 12), np.uint8)),
            (
                "raw/test-labels.idx holds 200 x 12 x 12 values, expected labels, one for each of "
                "200 images; these look like images"
            ),
        ),
        (
            swapped("train-images", "test-images"),
            (
                "raw/train-images.idx holds 200 images and raw/train-labels.idx 600 labels, "
                "expected as many of each"
            ),
        ),
        (
            files(test_images=np.zeros((200, 28, 28), np.uint8)),
            "raw/test-images.idx holds 200 x 28 x 28 values, expected images, N x 12 x 12",
        ),
        (
            files(test_labels=np.full(200, NUM_CLASSES, np.uint8)),
            (
                "raw/test-labels.idx holds 200 labels above 9, expected 10 classes; the first is "
                "10 in row 0"
            ),
        ),
    ],
)
def test_what_is_not_images_and_their_labels_is_refused(content: Files, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_raw(content, LAYOUT)

    assert str(caught.value).startswith(message)


def test_a_file_that_is_cut_short_is_named() -> None:
    whole = dict(files())
    whole["test-images"] = RawFile(Path("raw/t.idx"), whole["test-images"].content[:-7])

    with pytest.raises(DataError, match=r"^raw/t.idx was cut short"):
        load_raw(whole, LAYOUT)
