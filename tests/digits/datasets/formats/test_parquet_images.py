"""Images in Parquet files: bytes that are no pixels, stated shapes, and a column per pixel."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks, read_raw
from digits.errors import DataError
from digits.spec import ReadOptions
from tests.support.handwriting import make_splits
from tests.support.layouts import make_spec, png, read_all, refused

IMAGES, LABELS = (array[:90] for array in make_splits()["train"])
TALL = np.ascontiguousarray(IMAGES[:, :, :9])
"""Images of 12 x 9 pixels."""


def write(path: Path, images: Any, metadata: dict[str, str] | None = None, **field: Any) -> Path:
    column = images if isinstance(images, pa.Array) else pa.array(images, pa.binary())
    schema = pa.schema(
        [pa.field("image", column.type, metadata=field or None), pa.field("label", pa.int64())],
        metadata=metadata,
    )
    pq.write_table(pa.table([column, pa.array(LABELS.astype(int))], schema=schema), path)
    return path


def rgba(image: Any) -> Any:
    return np.dstack([image, image, image, np.full_like(image, 255)])


ALIKE = {
    "float32": lambda image: (image / 255).astype("<f4"),
    "float64": lambda image: (image / 255).astype("<f8"),
    "big-endian float32": lambda image: (image / 255).astype(">f4"),
    "uint16": lambda image: image.astype("<u2"),
    "int32": lambda image: image.astype("<i4"),
    "big-endian int32": lambda image: image.astype(">i4"),
    "int64": lambda image: image.astype("<i8"),
    "RGBA": rgba,
    "RGB": lambda image: np.dstack([image] * 3),
}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("name", ALIKE)
def test_bytes_that_are_not_pixels_are_named(name: str, is_known: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", [ALIKE[name](image).tobytes() for image in IMAGES])
    shape = (12, 12) if is_known else None
    options = ReadOptions(file_layout="parquet")

    with pytest.raises(DataError) as caught:
        list(read_raw([path], shape, options, Defects()))

    assert f"bytes that look like 144 {name}" in str(caught.value)
    assert "np.frombuffer(b, " in str(caught.value)


@pytest.mark.parametrize("images", [IMAGES, IMAGES // 255, IMAGES // 16, 255 - IMAGES])
def test_pixels_are_not_taken_for_anything_else(images: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", [image.tobytes() for image in images])
    options = ReadOptions(file_layout="parquet")

    (chunk,) = read_raw([path], None, options, Defects())

    # Nothing states their shape.
    np.testing.assert_array_equal(chunk.values, images.reshape(90, 144))


FEATURES = {"image": {"shape": [12, 9], "dtype": "uint8", "_type": "Array2D"}}
STATED = {
    "the field": lambda path: write(path, [image.tobytes() for image in TALL], shape="[12, 9]"),
    "a tensor": lambda path: write(path, pa.FixedShapeTensorArray.from_numpy_ndarray(TALL)),
    "a tensor with a channel": lambda path: write(
        path, pa.FixedShapeTensorArray.from_numpy_ndarray(TALL[..., None])
    ),
    "Hugging Face": lambda path: write(
        path,
        pa.array([image.ravel().tolist() for image in TALL]),
        metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
    ),
    "nested lists": lambda path: write(path, pa.array(TALL.tolist())),
    "nested lists with a channel": lambda path: write(path, pa.array(TALL[..., None].tolist())),
    "nested lists of three channels": lambda path: write(
        path, pa.array(np.repeat(TALL[:, None], 3, axis=1).tolist())
    ),
}


@pytest.mark.parametrize("by", STATED)
def test_a_stated_shape_is_used(by: str, tmp_path: Path) -> None:
    path = STATED[by](tmp_path / "x.parquet")

    (chunk,) = read_raw([path], None, ReadOptions(file_layout="parquet"), Defects())

    np.testing.assert_array_equal(chunk.values, TALL)


@pytest.mark.parametrize("by", ["the field", "a tensor", "nested lists"])
def test_a_stated_shape_that_is_not_the_datasets_is_refused(by: str, tmp_path: Path) -> None:
    path = STATED[by](tmp_path / "x.parquet")

    message = refused("parquet", [path], image_shape=[9, 12])

    assert "12 x 9 pixels, expected 9 x 12 (image_size)" in message


def test_arrays_in_cells_are_named(tmp_path: Path) -> None:
    def npy(image: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, image)
        return file.getvalue()

    path = write(tmp_path / "x.parquet", [npy(image) for image in IMAGES])

    message = refused("parquet", [path])

    assert "row 0 has an image that is a NumPy array (.npy)" in message
    assert "np.load(io.BytesIO(b))" in message


@pytest.mark.parametrize("content", [None, b""])
def test_paths_without_bytes_are_named(content: bytes | None, tmp_path: Path) -> None:
    rows = [{"bytes": content, "path": f"/home/me/{row}.png"} for row in range(90)]
    path = write(tmp_path / "x.parquet", pa.array(rows))

    assert "has a path and no bytes (/home/me/0.png)" in refused("parquet", [path])


def test_paths_instead_of_images_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.array([f"{row}.png" for row in range(90)]))

    assert "has text instead of an image (0.png)" in refused("parquet", [path])


def test_rows_without_an_image_are_defects(tmp_path: Path) -> None:
    rows = [png(image) if row % 2 else None for row, image in enumerate(IMAGES)]
    defects = Defects()

    (chunk,) = read_chunks([write(tmp_path / "x.parquet", rows)], make_spec("parquet"), defects)

    np.testing.assert_array_equal(chunk.images, IMAGES[1::2])
    assert [(defect.check, defect.count) for defect in defects.found] == [("image_size", 45)]


def frame(kind: str = "int64") -> pd.DataFrame:
    """One column per pixel, as OpenML and Kaggle have it."""
    pixels = IMAGES.reshape(90, -1).astype(kind)
    return pd.DataFrame(pixels, columns=[f"pixel{place + 1}" for place in range(144)])


FRAMES = {
    "a category, last": lambda: frame().assign(**{"class": pd.Categorical(LABELS.astype(str))}),
    "floats": lambda: frame("float64").assign(label=LABELS),
    "an index with a name": lambda: (
        frame().assign(y=LABELS).set_index(pd.Index(range(5, 95), name="row"))
    ),
    "an index of text": lambda: (
        frame().assign(y=LABELS).set_index(pd.Index([f"r{row}" for row in range(90)]))
    ),
    "an unusual label": lambda: frame().assign(answer=LABELS),
    "alphabetical pixels": lambda: frame()[sorted(frame().columns)].assign(label=LABELS),
}


@pytest.mark.parametrize("form", FRAMES)
def test_a_column_per_pixel_is_read(form: str, tmp_path: Path) -> None:
    FRAMES[form]().to_parquet(tmp_path / "x.parquet")

    ((images, labels, _),) = read_all("parquet", [tmp_path / "x.parquet"])

    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_a_column_that_is_neither_is_named(tmp_path: Path) -> None:
    frame().assign(label=LABELS, weight=0.5).to_parquet(tmp_path / "x.parquet")

    message = refused("parquet", [tmp_path / "x.parquet"])

    assert "neither pixels nor labels: weight, expected only these; drop the others" in message
