import numpy as np
import pytest

from digits.datasets.images import Images, Labels
from digits.errors import DataError
from digits.validation.summary import CENTROID_COLUMN, COLUMNS, summarize

BLACK, GRAY, WHITE = 0, 100, 255


def image(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, np.uint8)


LEFT = image((WHITE, BLACK), (WHITE, BLACK))
RIGHT = image((BLACK, WHITE), (BLACK, WHITE))
ALMOST_RIGHT = image((BLACK, WHITE), (GRAY, WHITE))
TOP = image((WHITE, WHITE), (BLACK, BLACK))
SPLITS = {
    "train": (np.stack([LEFT, RIGHT, LEFT, RIGHT]), np.array([0, 1, 1, 1], np.uint16)),
    "test": (np.stack([LEFT, ALMOST_RIGHT, TOP]), np.array([0, 1, 5], np.uint16)),
}


def chunks(split: str, size: int) -> list[tuple[Images, Labels]]:
    images, labels = SPLITS[split]
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


def summary(size: int = 10, **options: Images):
    return summarize({"train": chunks("train", size), "test": chunks("test", size)}, **options)


def column(frame, name: str) -> list:
    return frame[name].tolist()


def test_each_image_is_measured() -> None:
    test = summary()["test"]

    assert tuple(test.columns) == COLUMNS
    assert column(test, "label") == [0, 1, 5]
    assert column(test, "pixel_min") == [0, 0, 0]
    assert column(test, "pixel_max") == [255, 255, 255]
    assert column(test, "pixel_mean") == [127.5, 152.5, 127.5]
    assert column(test, "contrast") == [255, 255, 255]
    assert column(test, "ink") == [0.5, 0.5, 0.5]


def test_rows_of_a_split_are_compared_with_each_other() -> None:
    train = summary()["train"]

    assert column(train, "class_size") == [1, 3, 3, 3]
    assert column(train, "is_duplicate") == [False, False, True, True]
    assert column(train, "is_label_repeat") == [False, False, True, True]


def test_splits_are_compared_with_each_other() -> None:
    frames = summary()

    assert column(frames["train"], "is_shared") == [True, False, True, False]
    assert column(frames["test"], "is_shared") == [True, False, False]
    assert column(frames["train"], "is_near_duplicate") == [False, True, False, True]
    assert column(frames["test"], "is_near_duplicate") == [False, True, False]


def test_equal_images_with_different_labels_are_marked_in_both_splits() -> None:
    frames = summary()

    assert column(frames["train"], "is_conflict") == [True, False, True, False]
    assert column(frames["test"], "is_conflict") == [True, False, False]


@pytest.mark.parametrize(("ground", "stroke"), [(0, 255), (3, 16), (100, 101)])
def test_inverted_images_are_marked_at_any_contrast(ground: int, stroke: int) -> None:
    usual = np.full((8, 8), ground, np.uint8)
    usual[2:7, 0:4] = stroke
    turned = ground + stroke - usual
    labels = np.zeros(3, np.uint16)

    frames = summarize(
        {
            "train": [(np.stack([usual, usual, turned]), labels)],
            "test": [(np.stack([turned, usual, usual]), labels)],
        }
    )

    assert column(frames["train"], "is_inverted") == [False, False, True]
    assert column(frames["test"], "is_inverted") == [True, False, False]


def test_a_blank_image_has_no_contrast_and_is_not_inverted() -> None:
    blank = np.full((1, 2, 2), WHITE, np.uint8)
    train = chunks("train", 10)

    test = summarize({"train": train, "test": [(blank, np.zeros(1, np.uint16))]})["test"]

    assert (column(test, "contrast"), column(test, "is_inverted")) == ([0], [False])


def test_centroids_show_which_labels_fit_their_image() -> None:
    frames = summary(centroids=np.stack([LEFT, RIGHT]))

    assert tuple(frames["train"].columns) == (*COLUMNS, CENTROID_COLUMN)
    assert column(frames["train"], CENTROID_COLUMN) == [True, True, False, True]
    assert column(frames["test"], CENTROID_COLUMN) == [True, True, False]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_size_of_chunks_does_not_matter(size: int) -> None:
    centroids = np.stack([LEFT, RIGHT])
    for split, frame in summary(size, centroids=centroids).items():
        assert frame.equals(summary(centroids=centroids)[split])


def test_no_column_can_contain_nulls() -> None:
    for frame in summary(centroids=np.stack([LEFT, RIGHT])).values():
        assert not frame.isna().any(axis=None)
        assert {dtype.kind for dtype in frame.dtypes} <= set("uifb")


@pytest.mark.parametrize("empty", [[], [(np.zeros((0, 2, 2), np.uint8), np.zeros(0, np.uint16))]])
def test_a_split_without_images_is_rejected(empty: list[tuple[Images, Labels]]) -> None:
    with pytest.raises(DataError, match="train split has no images"):
        summarize({"train": empty, "test": chunks("test", 10)})
