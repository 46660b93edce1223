import hashlib
from pathlib import Path

import numpy as np
import pytest

from digits.errors import DataError
from digits.thresholds import CentroidFile
from digits.validation.centroids import (
    compute_centroids,
    freeze_centroids,
    load_centroids,
    nearest_classes,
)

IMAGES = np.array([[[0, 10], [20, 30]], [[2, 10], [21, 30]], [[255, 0], [0, 255]]], np.uint8)
LABELS = np.array([1, 1, 0], np.uint16)
CENTROIDS = np.array([[[255, 0], [0, 255]], [[1, 10], [20, 30]]], np.uint8)


def named(path: Path) -> CentroidFile:
    return CentroidFile(name=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_centroid_is_the_rounded_mean_of_its_class() -> None:
    centroids = compute_centroids([(IMAGES, LABELS)], num_classes=2)

    assert centroids.dtype == np.uint8
    assert centroids.tolist() == CENTROIDS.tolist()


def test_the_grouping_of_images_makes_no_difference() -> None:
    chunks = [(IMAGES[:1], LABELS[:1]), (IMAGES[1:], LABELS[1:])]

    assert compute_centroids(chunks, 2).tolist() == CENTROIDS.tolist()


def test_a_class_without_images_has_no_centroid() -> None:
    with pytest.raises(DataError, match="class 2, 3"):
        compute_centroids([(IMAGES, LABELS)], num_classes=4)


def test_the_nearest_class_is_found_and_a_tie_goes_to_the_lower_class() -> None:
    halfway = np.array([[[5, 0], [0, 0]]], np.uint8)
    both = np.stack([np.zeros((2, 2), np.uint8), halfway[0] * 2])

    assert nearest_classes(IMAGES, CENTROIDS).tolist() == [1, 1, 0]
    assert nearest_classes(halfway, both).tolist() == [0]


def test_frozen_centroids_can_be_loaded(tmp_path: Path) -> None:
    file = freeze_centroids(CENTROIDS, tmp_path / "two.centroids.npy")

    loaded = load_centroids(file, [tmp_path / "nowhere", tmp_path], (2, 2), 2)

    assert loaded.tolist() == CENTROIDS.tolist()
    assert file == named(tmp_path / "two.centroids.npy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = CentroidFile(name="gone.npy", sha256="0" * 64)

    with pytest.raises(DataError, match=r"gone\.npy.*restore the file"):
        load_centroids(file, [tmp_path], (2, 2), 2)


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.centroids.npy"
    file = freeze_centroids(CENTROIDS, path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match=rf"\(expected {file.sha256}\)"):
        load_centroids(file, [tmp_path], (2, 2), 2)


@pytest.mark.parametrize(
    "array", [CENTROIDS.astype(np.float32), CENTROIDS[:1], np.array([CENTROIDS, None], object)]
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "odd.npy"
    np.save(path, array, allow_pickle=array.dtype == object)

    with pytest.raises(DataError, match=r"odd\.npy"):
        load_centroids(named(path), [tmp_path], (2, 2), 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_not_an_array_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.npy"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"odd\.npy"):
        load_centroids(named(path), [tmp_path], (2, 2), 2)
