"""A dataset in every supported file layout."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from digits.errors import DataError
from digits.spec import DatasetSpec
from digits.thresholds import Split
from tests.support.archives import idx_files, npz
from tests.support.handwriting import NUM_CLASSES, SHAPE, Splits
from tests.support.small_dataset import NAME

Written = list[Path]


def write_idx(folder: Path, splits: Splits) -> Written:
    """Write the four files under the names that users give them."""
    for role, content in idx_files(splits).items():
        (folder / f"{role}.idx").write_bytes(content)
    return sorted(folder.iterdir())


def write_npz(folder: Path, splits: Splits, **others: Any) -> Written:
    """Write one archive with Keras's names; `others` replace its arrays by name."""
    path = folder / "digits.npz"
    path.write_bytes(npz(splits, **others))
    return [path]


def write_parquet(folder: Path, splits: Splits, form: str = "bytes") -> Written:
    """Write a file per split; `form` is how the images are stored."""
    paths = []
    for split, (images, labels) in splits.items():
        paths.append(folder / f"{split}-00000-of-00001.parquet")
        table = pa.table({"label": labels.astype(np.int64), "image": FORMS[form](images)})
        pq.write_table(table, paths[-1], row_group_size=64)
    return paths


FORMS: Mapping[str, Callable[[Any], pa.Array]] = {
    "bytes": lambda images: pa.array([image.tobytes() for image in images], pa.binary()),
    "fixed bytes": lambda images: pa.array(
        [image.tobytes() for image in images], pa.binary(images[0].size)
    ),
    "list": lambda images: pa.array([image.ravel().tolist() for image in images]),
    "fixed list": lambda images: pa.FixedSizeListArray.from_arrays(
        pa.array(images.reshape(-1)), images[0].size
    ),
    "nested list": lambda images: pa.array(images.tolist(), pa.list_(pa.list_(pa.float32()))),
    "tensor": lambda images: pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.ascontiguousarray(images)
    ),
    "png": lambda images: pa.array([png(image) for image in images], pa.binary()),
    "png and path": lambda images: pa.array(
        [{"bytes": png(image), "path": "x.png"} for image in images]
    ),
}
"""How images can be stored in a Parquet column."""


def write_folders(folder: Path, splits: Splits, names: str = "0123456789") -> Written:
    """Write a tree of image files whose names preserve the order of the rows."""
    for split, (images, labels) in splits.items():
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / names[label] / f"{row:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    return [folder]


def write_csv(folder: Path, splits: Splits, header: bool = True) -> Written:
    """Write a file per split: the label, then the pixels."""
    paths = []
    for split, (images, labels) in splits.items():
        flat = images.reshape(len(images), -1)
        rows = [",".join(map(str, row)) for row in np.column_stack([labels, flat])]
        names = ["label", *(f"pixel{place}" for place in range(flat.shape[1]))]
        paths.append(folder / f"{split}.csv")
        paths[-1].write_text("\n".join([",".join(names)] * header + rows) + "\n")
    return paths


def png(image: Any) -> bytes:
    """Format an image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


WRITERS: Mapping[str, Callable[[Path, Splits], Written]] = {
    "idx": write_idx,
    "npz": write_npz,
    "parquet": write_parquet,
    "folder": write_folders,
    "csv": write_csv,
}


def make_spec(layout: str, **changes: Any) -> DatasetSpec:
    """Make the spec of the made-up handwriting in a layout."""
    facts = {"name": NAME, "title": NAME, "image_shape": SHAPE, "num_classes": NUM_CLASSES}
    return DatasetSpec.model_validate(facts | {"floor": 0.2, "layout": layout} | changes)


def read_all(layout: str, files: Written, **changes: Any) -> list[tuple[Any, Any, Split | None]]:
    """Read the images and labels of each split, in file order; `changes` apply to the spec.

    Raises DataError if the files have defects.
    """
    defects = Defects()
    chunks = list(read_chunks(files, make_spec(layout, **changes), defects))
    defects.enforce()
    for chunk in chunks:
        assert len(chunk.images) == len(chunk.labels) == len(chunk.names)
    found = []
    for split in dict.fromkeys(chunk.split for chunk in chunks):
        these = [chunk for chunk in chunks if chunk.split == split]
        images = np.concatenate([chunk.images for chunk in these])
        found.append((images, np.concatenate([chunk.labels for chunk in these]), split))
    return found


def refused(layout: str, files: Written, **changes: Any) -> str:
    """Return the one-line message with which files are refused."""
    with pytest.raises(DataError) as caught:
        read_all(layout, files, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line
