from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digits.errors import DamagedError
from digits.training.predictions import read_predictions, write_predictions

NUM_IMAGES, NUM_CLASSES = 500, 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Predictions from `answers` for 500 images."""
    path = tmp_path / "predictions.parquet"
    write_predictions(path, *answers())
    return path


def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(NUM_CLASSES), NUM_IMAGES).astype(np.float32)
    y_true = rng.integers(NUM_CLASSES, size=NUM_IMAGES, dtype=np.int32)
    return y_true, probabilities.argmax(axis=1).astype(np.int32), probabilities


def test_labels_are_read_as_written(path: Path) -> None:
    y_true, y_predicted = read_predictions(path)

    assert y_true.dtype == y_predicted.dtype == np.int32
    assert (y_true == answers()[0]).all()
    assert (y_predicted == answers()[1]).all()


def test_other_programs_read_one_row_per_image(path: Path) -> None:
    y_true, y_predicted, probabilities = answers()

    frame = pq.read_table(path).to_pandas()

    assert list(frame) == ["label", "predicted", "probability", "probabilities"]
    assert (frame["label"] == y_true).all()
    assert (np.stack(frame["probabilities"]) == probabilities).all()
    assert (frame["probability"] == probabilities[np.arange(NUM_IMAGES), y_predicted]).all()


def test_the_same_predictions_produce_the_same_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.parquet"
    write_predictions(again, *answers())

    assert again.read_bytes() == path.read_bytes()


def test_a_corrupted_byte_is_detected_or_changes_no_label(path: Path) -> None:
    content, rng = path.read_bytes(), np.random.default_rng(0)
    # No checksum covers the footer, whose length is stored before the last four bytes; the store's
    # digest covers it.
    footer = int.from_bytes(content[-8:-4], "little")
    num_noticed = 0
    for position in rng.integers(4, len(content) - 8 - footer, 300):
        altered = bytearray(content)
        altered[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(altered)
        try:
            y_true, y_predicted = read_predictions(path)
        except DamagedError:
            num_noticed += 1
        else:
            assert (y_true == answers()[0]).all()
            assert (y_predicted == answers()[1]).all()
    assert num_noticed > 0


@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_a_truncated_file_is_an_error(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(DamagedError, match="cannot be read as predictions"):
        read_predictions(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"gone\.parquet cannot be read"):
        read_predictions(tmp_path / "gone.parquet")


@pytest.mark.parametrize(
    "columns",
    [
        {"label": pa.array([1], pa.int32())},
        {"label": pa.array([1], pa.int32()), "predicted": pa.array(["1"])},
        {"image": pa.array([b"1"])},
    ],
)
def test_a_table_with_other_columns_is_an_error(
    tmp_path: Path, columns: dict[str, pa.Array]
) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table(columns), path)

    with pytest.raises(
        DamagedError, match=r"cannot be read as predictions: its columns are (label|image)"
    ):
        read_predictions(path)
