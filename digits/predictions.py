"""A model's answers on a test set, one row for each image, as Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from digits.errors import DamagedError

Array = npt.NDArray[Any]


def write_predictions(path: Path, y_true: Array, y_predicted: Array, probabilities: Array) -> None:
    """Write labels int (N,), predicted labels int (N,) and class probabilities float (N, K)."""
    num_classes = probabilities.shape[1]
    of_each = pa.ListArray.from_arrays(
        pa.array(np.arange(0, probabilities.size + 1, num_classes, dtype=np.int32)),
        pa.array(probabilities.ravel(), pa.float32()),
    )
    table = pa.table(
        {
            "label": pa.array(y_true, pa.int32()),
            "predicted": pa.array(y_predicted, pa.int32()),
            "probability": pa.array(probabilities.max(axis=1), pa.float32()),
            "probabilities": of_each,
        }
    )
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_predictions(
    path: Path, columns: Sequence[str] = ("label", "predicted")
) -> tuple[Array, ...]:
    """Columns (N,), by default the true and the predicted labels. Raises DamagedError."""
    try:
        table = pq.read_table(path, columns=list(columns), page_checksum_verification=True)
        return tuple(table[column].to_numpy() for column in columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DamagedError(f"{path} cannot be read as predictions: {error}") from error
