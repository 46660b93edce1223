from pathlib import Path

import numpy as np
import pytest

from digits.errors import DamagedError
from digits.training.arrays import StoredArray
from tests.support.memory import peak_memory


@pytest.fixture
def stored(tmp_path: Path) -> tuple[StoredArray, np.ndarray]:
    values = np.random.default_rng(1).random((10, 3, 2), np.float32)
    np.save(tmp_path / "x.npy", values)
    return StoredArray(tmp_path / "x.npy"), values


def test_rows_come_in_the_requested_order(
    stored: tuple[StoredArray, np.ndarray],
) -> None:
    array, values = stored
    numbers = np.array([7, 0, 9, 0])

    assert (array.rows(numbers) == values[numbers]).all()
    assert (array.shape, array.dtype, len(array)) == (values.shape, values.dtype, 10)


def test_parts_make_up_the_array_in_order(stored: tuple[StoredArray, np.ndarray]) -> None:
    array, values = stored

    parts = list(array.parts(4))

    assert [len(part) for part in parts] == [4, 4, 2]
    assert (np.concatenate(parts) == values).all()
    assert (array.part(8, 20) == values[8:]).all()
    assert len(array.part(10, 20)) == 0


def test_one_dimensional_labels_have_rows_too(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.arange(10, dtype=np.int32))
    array = StoredArray(tmp_path / "y.npy")

    assert array.rows(np.array([3, 1])).tolist() == [3, 1]
    assert array.part(2, 4).tolist() == [2, 3]


def test_a_file_truncated_after_opening_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((10, 3), np.float32))
    array = StoredArray(tmp_path / "x.npy")
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 4)

    with pytest.raises(DamagedError, match="was truncated"):
        array.rows(np.array([0, 9]))
    with pytest.raises(DamagedError, match="was truncated"):
        list(array.parts(4))


def test_memory_use_is_that_of_a_part(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1000, 1000), np.float32))
    array = StoredArray(tmp_path / "x.npy")

    with peak_memory(at_most=200_000):
        for part in array.parts(20):
            assert part.shape == (20, 1000)
        array.rows(np.arange(0, 1000, 50))
