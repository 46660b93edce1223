import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from digits.datasets.sources.idx import HEADER_BYTES, format_idx, parse_idx, read_shape
from digits.errors import DataError

IMAGES = format_idx(np.arange(2 * 12 * 12).reshape(2, 12, 12) % 256)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6)


def test_a_known_file_is_read_as_the_format_defines() -> None:
    content = bytes.fromhex("0000 0803 00000002 00000001 00000002 0001feff")

    images = parse_idx(content, "images")

    np.testing.assert_array_equal(images, np.array([[[0, 1]], [[254, 255]]], np.uint8))


@given(hnp.arrays(np.uint8, shapes))
def test_a_written_array_is_read_back(array: npt.NDArray[np.uint8]) -> None:
    read = parse_idx(format_idx(array), "a file")

    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, expected an IDX file"),
        (b"\x1f\x8b\x08\x00" + IMAGES, "is not an IDX file: it starts with 1f8b0800"),
        (b"<html></html>", "is not an IDX file: it starts with 3c68746d"),
        (
            b"\0\0\x0d\x03" + IMAGES[4:],
            "values of type 0x0d (float32), expected 0x08 (unsigned bytes)",
        ),
        (b"\0\0\x08\x00", "has 0 dimensions"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\0", "has 255 dimensions"),
        (IMAGES[:10], "is truncated: 10 bytes, expected 16 for the header alone"),
        (IMAGES[:-1], "is truncated: 303 bytes, expected 304 for 2 x 12 x 12 values"),
        (IMAGES + b"\0", "has extra bytes at the end: 305 bytes, expected 304"),
        (b"\0\0\x08\x02" + b"\xff" * 8, "is truncated: 12 bytes, expected 18,446,744,0"),
        (b"\0\0\x08\x03" + b"\xff" * 8 + b"\0" * 4, "has no values: 4,294,967,295 x "),
    ],
)
def test_invalid_bytes_are_refused_with_the_reason(content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_idx(content, "data/x.idx")

    assert str(caught.value).startswith("data/x.idx ")
    assert message in str(caught.value)


def test_the_shape_is_read_from_the_first_bytes() -> None:
    assert read_shape(IMAGES[:HEADER_BYTES], len(IMAGES), "a file") == (2, 12, 12)

    with pytest.raises(DataError, match="is truncated: 303 bytes, expected 304"):
        read_shape(IMAGES[:HEADER_BYTES], len(IMAGES) - 1, "a file")
