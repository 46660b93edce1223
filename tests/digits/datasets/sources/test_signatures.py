"""The first bytes of a file say what it is, in every layout alike."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.defects import Defects
from digits.datasets.formats.readers import read_chunks
from digits.datasets.sources.signatures import recognize
from digits.errors import DataError
from digits.layouts import LAYOUTS
from tests.support.handwriting import make_splits
from tests.support.layouts import WRITERS, make_spec, png, read_all, write_csv, write_idx


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", content)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((3, 3)))
    return file.getvalue()


FOREIGN = {
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:77\nsize 12\n",
    "html": b"\r\n <!DOCTYPE HTML><title>Sign in</title>",
    "json": json.dumps({"error": "not found"}).encode(),
    "zip": zipped(b"1,2,3"),
    "npy": npy(),
    "pickle": b"\x80\x04\x95\x1e\x00\x00\x00",
    "bzip2": b"BZh91AY&SY",
    "png": png(np.zeros((9, 9), np.uint8)),
    "tar": b"x".ljust(257, b"\0") + b"ustar\x0000",
    "hdf5": b"\x89HDF\r\n\x1a\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_content_is_recognized(name: str) -> None:
    kind = recognize(FOREIGN[name])

    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize("start", [b"", b"0,0,0", b"label,pixel0", b"BMI,age\n1,2", b"[1, 2]"])
def test_other_content_is_not(start: bytes) -> None:
    assert recognize(start) is None


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "folder"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_named_for_what_it_is(
    name: str, layout: str, tmp_path: Path
) -> None:
    files = WRITERS[layout](tmp_path, make_splits())
    for path in files:
        path.write_bytes(FOREIGN[name])
    kind = recognize(FOREIGN[name])
    assert kind is not None
    # An .npz is a ZIP archive.
    if (layout, name) == ("npz", "zip"):
        return

    with pytest.raises(DataError) as caught:
        list(read_chunks(files, make_spec(layout), Defects()))

    assert f" is {kind.about}, expected " in str(caught.value)
    assert kind.advice in str(caught.value)


@pytest.mark.parametrize("layout", ["idx", "npz", "parquet"])
def test_a_table_under_another_name_is_named(layout: str, tmp_path: Path) -> None:
    files = WRITERS[layout](tmp_path, make_splits())
    for path in files:
        path.write_text("label,pixel0,pixel1\n5,0,0\n")

    with pytest.raises(DataError, match=r"is text, expected .* rename it to end in \.csv"):
        list(read_chunks(files, make_spec(layout), Defects()))


def test_a_picture_of_a_tree_is_named_too(tmp_path: Path) -> None:
    files = WRITERS["folder"](tmp_path, make_splits())
    (tmp_path / "train" / "3" / "x.png").write_bytes(FOREIGN["lfs"])
    defects = Defects()

    list(read_chunks(files, make_spec("folder"), defects))

    (defect,) = defects.found
    assert "x.png is a Git LFS pointer" in str(defect)
    assert "git lfs pull" in str(defect)


PACKED = {
    "a plain name": (gzip.compress, False),
    "twice": (lambda content: gzip.compress(gzip.compress(content)), True),
    "plain, under .gz": (lambda content: content, True),
    "padded with zeros": (lambda content: gzip.compress(content) + bytes(1000), True),
    "in three parts": (
        lambda content: b"".join(
            gzip.compress(part) for part in (content[:99], content[99:5000], content[5000:])
        ),
        True,
    ),
}


@pytest.mark.parametrize("layout", ["idx", "csv"])
@pytest.mark.parametrize("form", PACKED)
def test_gzip_is_read_whatever_the_name(form: str, layout: str, tmp_path: Path) -> None:
    pack, has_suffix = PACKED[form]
    write = {"idx": write_idx, "csv": write_csv}[layout]
    files = []
    for path in write(tmp_path, make_splits()):
        content = path.read_bytes()
        path.unlink()
        files.append(path.with_name(f"{path.name}{'.gz' * has_suffix}"))
        files[-1].write_bytes(pack(content))

    found = {split: (images, labels) for images, labels, split in read_all(layout, files)}

    for split, (images, labels) in make_splits().items():
        np.testing.assert_array_equal(found[split][0], images)
        np.testing.assert_array_equal(found[split][1], labels)
