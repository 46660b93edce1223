from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digits.datasets.images import (
    ROW_GROUP,
    SplitWriter,
    content_digest,
    iter_split,
    read_split,
    write_split,
)
from digits.errors import DamagedError
from tests.support.handwriting import LAYOUT, make_splits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    write_split(path, *make_splits()["train"])
    return path


def test_a_written_split_is_read_back(path: Path) -> None:
    images, labels = make_splits()["train"]

    read_images, read_labels = read_split(path, LAYOUT)

    assert (read_images.dtype, read_labels.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(read_images, images)
    np.testing.assert_array_equal(read_labels, labels)


def test_rows_beyond_one_group_keep_their_order(tmp_path: Path) -> None:
    labels = np.arange(2 * ROW_GROUP + 5) % 1000
    images = np.broadcast_to((labels % 256)[:, None, None], (len(labels), 12, 12)).astype(np.uint8)
    write_split(tmp_path / "x.parquet", images, labels)

    chunks = list(iter_split(tmp_path / "x.parquet", LAYOUT))

    assert [len(images) for images, _ in chunks] == [ROW_GROUP, ROW_GROUP, 5]
    read_images, read_labels = read_split(tmp_path / "x.parquet", LAYOUT)
    np.testing.assert_array_equal(read_images, images)
    np.testing.assert_array_equal(read_labels, labels)


def test_non_contiguous_images_are_written_correctly(tmp_path: Path) -> None:
    images, labels = make_splits()["train"]
    write_split(tmp_path / "x.parquet", images[::2].transpose(0, 2, 1), labels[::2])

    read_images, _ = read_split(tmp_path / "x.parquet", LAYOUT)

    np.testing.assert_array_equal(read_images, images[::2].transpose(0, 2, 1))


def test_equal_images_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    images, labels = make_splits()["train"]
    write_split(tmp_path / "again.parquet", images, labels.astype(np.int64))

    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("size", [1, 7, 100, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP + 1, 20_000])
def test_the_bytes_do_not_depend_on_the_size_of_chunks(size: int, tmp_path: Path) -> None:
    labels = np.arange(2 * ROW_GROUP + 5 if size > 1 else 50) % 1000
    images = np.broadcast_to((labels % 256)[:, None, None], (len(labels), 12, 12)).astype(np.uint8)
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(144), len(images), [None, pa.py_buffer(images.tobytes())]
    )
    write_split(tmp_path / "once.parquet", images[:9], labels[:9])
    schema = pq.read_schema(tmp_path / "once.parquet")
    whole = pa.table([pixels, pa.array(labels, pa.uint16())], schema=schema)
    pq.write_table(
        whole,
        tmp_path / "whole.parquet",
        compression="zstd",
        row_group_size=ROW_GROUP,
        write_page_checksum=True,
    )

    with SplitWriter(tmp_path / "x.parquet", (12, 12)) as writer:
        for start in range(0, len(images), size):
            writer.write(images[start : start + size], labels[start : start + size])

    assert writer.num_images == len(images)
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_the_file_describes_its_content(path: Path) -> None:
    schema = pq.read_schema(path)

    assert schema.field("image").type == pa.binary(144)
    assert schema.field("image").metadata == {b"shape": b"[12, 12]", b"dtype": b"uint8"}
    assert schema.field("label").type == pa.uint16()


def test_a_label_out_of_range_is_not_written(tmp_path: Path) -> None:
    images, labels = make_splits()["train"]

    with pytest.raises(pa.ArrowInvalid):
        write_split(tmp_path / "x.parquet", images, labels.astype(np.int64) - 1)


def test_a_file_of_another_shape_is_refused(path: Path) -> None:
    other = LAYOUT.model_copy(update={"image_shape": (9, 16)})

    with pytest.raises(
        DamagedError, match=r"does not match: found .*\[12, 12\].*, expected .*\[9, 16\]"
    ):
        read_split(path, other)
    with pytest.raises(DamagedError, match="expected"):
        next(iter_split(path, other))


@pytest.mark.parametrize("change", ["no metadata", "another type", "another column"])
def test_a_file_with_another_schema_is_refused(change: str, path: Path) -> None:
    table = pq.read_table(path)
    if change == "no metadata":
        table = table.replace_schema_metadata().cast(
            pa.schema([field.remove_metadata() for field in table.schema])
        )
    elif change == "another type":
        table = table.set_column(1, "label", table["label"].cast(pa.int64()))
    else:
        table = table.append_column("more", table["label"])
    pq.write_table(table, path)

    with pytest.raises(
        DamagedError,
        match=r"train.parquet: schema does not match: found .* expected image: fixed_size",
    ):
        read_split(path, LAYOUT)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_invalid_bytes_are_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)

    with pytest.raises(DamagedError, match=r"train.parquet cannot be read"):
        read_split(path, LAYOUT)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"gone.parquet cannot be read"):
        read_split(tmp_path / "gone.parquet", LAYOUT)


def test_a_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DamagedError, match="cannot be read"):
        read_split(path, LAYOUT)


def test_a_flipped_bit_never_changes_the_result(path: Path) -> None:
    images, labels = make_splits()["train"]
    whole = path.read_bytes()
    num_refused = 0
    # A prime step covers all bits of a byte and all parts of the file.
    for bit in range(0, 8 * len(whole), 1499):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        try:
            read_images, read_labels = read_split(path, LAYOUT)
        except DamagedError:
            num_refused += 1
        else:
            np.testing.assert_array_equal(read_images, images)
            np.testing.assert_array_equal(read_labels, labels)
    assert num_refused > 150


def test_a_footer_with_a_wrong_number_of_rows_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = make_splits()["train"]
    chunks = pa.Table.from_batches(pq.ParquetFile(path).iter_batches()).to_batches()
    for given in ([], [chunks[0][:599]], [chunks[0], chunks[0][:1]]):
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, given=given: iter(given))

        with pytest.raises(DamagedError, match="the footer says 600 images, found"):
            read_split(path, LAYOUT)
    assert len(images) == len(labels) == 600


def test_the_digest_covers_the_images_and_not_their_encoding(path: Path) -> None:
    images, labels = make_splits()["train"]
    digest = content_digest(path, LAYOUT)
    pq.write_table(pq.read_table(path), path, row_group_size=7, compression="none")

    assert content_digest(path, LAYOUT) == digest
    content = b"[600, 12, 12]" + images.tobytes() + labels.astype("<u2").tobytes()
    assert digest == sha256(content).hexdigest()


@pytest.mark.parametrize("change", ["pixel", "label", "order", "shape"])
def test_any_change_of_the_images_changes_the_digest(change: str, path: Path) -> None:
    images, labels = (array.copy() for array in make_splits()["train"])
    digest = content_digest(path, LAYOUT)
    if change == "pixel":
        images[599, 11, 11] ^= 1
    elif change == "label":
        labels[599] += 1
    elif change == "order":
        images = images[::-1]
    else:
        images = images.reshape(600, 9, 16)

    write_split(path, images, labels)
    layout = LAYOUT.model_copy(update={"image_shape": images.shape[1:]})
    assert content_digest(path, layout) != digest
