import io
import zipfile

import numpy as np
import pytest

from digits.datasets.sources.npz import read_npz
from digits.errors import DataError
from tests.support.archives import idx_files, npy, npz, npz_of_members
from tests.support.handwriting import SHAPE, make_splits

IMAGES = np.zeros((2, *SHAPE), np.uint8)
NOTHING = np.zeros((0, 2**40), np.uint8)


def test_the_arrays_become_the_original_files() -> None:
    splits = make_splits()

    assert read_npz(npz(splits), SHAPE, "mnist.npz") == idx_files(splits)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip file"),
        (npz(make_splits())[:-50], "not a zip file"),
        (npz(make_splits(), x_test=np.zeros(3)), "x_test has type float64, expected uint8"),
        (npz(make_splits(), x_test=IMAGES.T), "x_test has type uint8 in Fortran order, expected C"),
        (npz(make_splits(), y_test=np.array([{}])), "y_test has type object, expected uint8"),
        (npz_of_members({"x_train": b"\x93NUMPY\x01\x00"}), "EOF"),
        (npz_of_members({"x_train": npy(NOTHING)}), "out of bounds"),
        (npz_of_members({"x_train": npy(IMAGES)[:-1]}), "x_train does not have the 288 values"),
        (npz_of_members({"x_train": npy(IMAGES) + b"x"}), "x_train does not have the 288 values"),
        (npz_of_members({"x_train": b"\x93NUMPY\x03"}), "expected 8 bytes"),
        (npz_of_members({}, zipfile.ZIP_BZIP2), "x_train uses a compression method"),
        (npz_of_members({"y_test": bytes(2_000_000)}), "y_test declares 2,000,000 bytes"),
    ],
)
def test_invalid_content_is_refused_with_the_reason(content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_npz(content, SHAPE, "mnist.npz")

    assert str(caught.value).startswith(
        "mnist.npz is not a valid .npz with x_train, y_train, x_test"
    )
    assert message in str(caught.value)


def test_a_file_that_lacks_an_array_is_refused() -> None:
    renamed = npz(make_splits()).replace(b"y_test", b"y_tost")

    with pytest.raises(DataError, match=r"no item named 'y_test.npy'"):
        read_npz(renamed, SHAPE, "mnist.npz")


def test_a_header_that_claims_too_many_values_allocates_nothing() -> None:
    claim = npy(IMAGES).replace(b"(2, 12, 12)", b"(2000000000000, 12, 12)")

    with pytest.raises(DataError, match="does not have the 288,000,000,000,000 values"):
        read_npz(npz_of_members({"x_train": claim}), SHAPE, "mnist.npz")


def test_a_member_is_never_decompressed_beyond_its_declared_size() -> None:
    packed = npz_of_members({"y_test": bytes(900_000)}, zipfile.ZIP_DEFLATED)
    short = packed.replace((900_000).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    assert short != packed

    with pytest.raises(DataError, match="Bad CRC-32"):
        read_npz(short, SHAPE, "mnist.npz")


def test_an_archive_of_too_many_files_is_not_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(101):
            archive.writestr(f"{number}", b"")

    with pytest.raises(DataError, match=r"^mnist.npz lists more than 100 files, expected 4$"):
        read_npz(file.getvalue(), SHAPE, "mnist.npz")
