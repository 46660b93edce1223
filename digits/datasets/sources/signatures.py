"""Tells by its first bytes what a file is, whatever its name says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

NUM_BYTES = 512
"""Number of bytes that `recognize` looks at."""


@dataclass(frozen=True)
class Kind:
    """A kind of content: a word for it in messages, and what to do with such a file."""

    name: str
    about: str
    advice: str


UNPACK = "unpack it and name the files inside"
CONVERT = "save its images as PNG, or as an .npz with x_train and y_train"
DOWNLOAD = "download the file itself; this is the answer of a server"
SORT = "put images into one folder per class"
TO_PNG = "save it as PNG"
JOIN = (
    'save images and labels together: np.savez("digits.npz", x_train=np.load("IMAGES.npy"), '
    'y_train=np.load("LABELS.npy"))'
)
KINDS: Mapping[str, Kind] = {
    name: Kind(name, about, advice)
    for name, about, advice in (
        ("lfs", "a Git LFS pointer, not the file", "fetch the file with `git lfs pull`"),
        ("html", "a web page", DOWNLOAD),
        ("xml", "an XML document", DOWNLOAD),
        ("json", "a JSON document", f"{DOWNLOAD}, or convert it to CSV"),
        ("zip", "a ZIP archive", UNPACK),
        ("gzip", "compressed with gzip", "decompress it with gunzip"),
        ("bzip2", "compressed with bzip2", "decompress it with bunzip2"),
        ("xz", "compressed with xz", "decompress it with unxz"),
        ("zstd", "compressed with zstd", "decompress it with unzstd"),
        ("7z", "a 7-Zip archive", UNPACK),
        ("rar", "a RAR archive", UNPACK),
        ("tar", "a tar archive", UNPACK),
        ("npy", "a NumPy array (.npy)", JOIN),
        ("pickle", "a Python pickle, which is never loaded", CONVERT),
        ("hdf5", "an HDF5 file", CONVERT),
        ("matlab", "a MATLAB file", CONVERT),
        ("parquet", "a Parquet file", "rename it to end in .parquet"),
        ("arrow", "an Arrow file", "save it as Parquet: pyarrow.parquet.write_table"),
        ("idx", "an IDX file", "rename it to train-images.idx or train-labels.idx"),
        ("png", "a PNG image", SORT),
        ("jpeg", "a JPEG image", SORT),
        ("bmp", "a BMP image", SORT),
        ("gif", "a GIF image", SORT),
        ("tiff", "a TIFF image", TO_PNG),
        ("webp", "a WebP image", TO_PNG),
        ("pdf", "a PDF document", "save its images as PNG"),
        ("excel", "an old Excel workbook", "save the sheet as CSV"),
        ("sqlite", "an SQLite database", "export the table as CSV"),
        ("text", "text", "if it is a table, rename it to end in .csv"),
    )
}

STARTS = (
    (b"version https://git-", "lfs"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n", "hdf5"),
    (b"MATLAB 5.0 MAT-file", "matlab"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"%PDF-", "pdf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel"),
    (b"SQLite format 3\0", "sqlite"),
)
PATTERNS = (
    (rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x04]", "idx"),
    (rb"BM....\0\0\0\0", "bmp"),
    (rb"RIFF....WEBP", "webp"),
    (rb"\x80[\x02-\x05][\x95(}\]cq\x8c]", "pickle"),
    (rb".{257}ustar", "tar"),
    (rb"(?i)\s*(<!doctype html|<html|<head|<body)", "html"),
    (rb"(?i)\s*(<\?xml|<error)", "xml"),
    (rb'\s*(\{\s*["}]|\[\s*\{)', "json"),
)


def recognize(start: bytes) -> Kind | None:
    """Return the kind of the content that begins with `start`, or None if it is not known."""
    for prefix, name in STARTS:
        if start.startswith(prefix):
            return KINDS[name]
    text = start.removeprefix(b"\xef\xbb\xbf")
    for pattern, name in PATTERNS:
        if re.match(pattern, text, re.DOTALL):
            return KINDS[name]
    return None


def as_text(start: bytes) -> Kind | None:
    """Return the kind of plain text, if content begins with it: several printable characters."""
    is_text = len(start) > 8 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
    return KINDS["text"] if is_text else None
