"""A model's predictions on a test set, one row per image, as Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from digits.errors import DamagedError

Array = npt.NDArray[Any]
SCHEMA = pa.schema(
    {
        "label": pa.int32(),
        "predicted": pa.int32(),
        "probability": pa.float32(),
        "probabilities": pa.list_(pa.float32()),
    }
)


def write_predictions(path: Path, y_true: Array, y_predicted: Array, probabilities: Array) -> None:
    """Write labels int (N,), predicted labels int (N,) and class probabilities float (N, K)."""
    num_classes = probabilities.shape[1]
    ends = np.arange(0, probabilities.size + 1, num_classes, dtype=np.int32)
    columns = [
        pa.array(y_true, pa.int32()),
        pa.array(y_predicted, pa.int32()),
        pa.array(probabilities.max(axis=1), pa.float32()),
        pa.ListArray.from_arrays(ends, pa.array(probabilities.ravel(), pa.float32())),
    ]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_predictions(
    path: Path, columns: Sequence[str] = ("label", "predicted")
) -> tuple[Array, ...]:
    """Read columns (N,), by default the true and the predicted labels.

    Raises DamagedError if the file is unreadable, corrupted or has other columns.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.schema_arrow != SCHEMA:
                raise DamagedError(
                    f"{path} cannot be read as predictions: its columns are "
                    f"{_columns(file.schema_arrow)} (expected {_columns(SCHEMA)})"
                )
            table = file.read(list(columns))
        return tuple(table[column].to_numpy() for column in columns)
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"{path} cannot be read as predictions: {error}") from error


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
