"""Corrupted files of labeled images, in each layout, and the expected message."""

import gzip
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from digits.thresholds import DefectName
from tests.support.archives import npy
from tests.support.handwriting import Splits, make_splits
from tests.support.layouts import WRITERS, png, write_npz

SPLITS: Splits = {
    split: (images[:60], labels[:60]) for split, (images, labels) in make_splits().items()
}


@dataclass(frozen=True)
class Damage:
    """A change to the files in a folder, the check that it fails, and the message."""

    layout: str
    do: Callable[[Path], Any]
    check: DefectName
    says: str
    leaves_rows: int | None = None
    """How many of the 60 training rows remain if the check is a warning."""
    spec: dict[str, Any] = field(default_factory=dict)


def write(damage: Damage, folder: Path) -> list[Path]:
    """Write the synthetic handwriting and apply the damage."""
    folder.mkdir(parents=True, exist_ok=True)
    files = WRITERS[damage.layout](folder, SPLITS)
    damage.do(folder)
    return files


def arrays(**others: Any) -> Callable[[Path], Any]:
    """Change arrays of the .npz."""

    def do(folder: Path) -> None:
        images, labels = SPLITS["train"]
        given: dict[str, npt.NDArray[Any]] = {"x_train": images, "y_train": labels}
        made = {name: other(given[name].copy()) for name, other in others.items()}
        write_npz(folder, SPLITS, **made)

    return do


def truncated_gz(folder: Path) -> None:
    """Replace the .csv by a truncated .gz of it."""
    path = folder / "train.csv"
    (folder / "train.csv.gz").write_bytes(cut(gzip.compress(path.read_bytes())))
    path.unlink()


def at(row: int, value: Any, kind: Any = None) -> Callable[[Any], Any]:
    """Set one row of an array to a value."""

    def change(array: Any) -> Any:
        array = array if kind is None else array.astype(kind)
        array[row] = value
        return array

    return change


def text(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], Any]:
    """Change the lines of a CSV."""

    def do(folder: Path) -> None:
        path = folder / name
        path.write_text("\n".join(change(path.read_text().splitlines())))

    return do


def line(number: int, change: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    """Change one line of a CSV, counted from 1."""
    return lambda lines: [
        change(text) if place == number else text for place, text in enumerate(lines, 1)
    ]


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Change the bytes of a file."""

    def do(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return do


def picture(name: str, new: bytes) -> Callable[[Path], Any]:
    """Add an image to the tree."""

    def do(folder: Path) -> None:
        path = folder / "train" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(new)

    return do


def column(name: str, change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """Change a column of the Parquet file."""

    def do(folder: Path) -> None:
        path = folder / "train-00000-of-00001.parquet"
        table = pq.read_table(path)
        place = table.schema.get_field_index(name)
        values = change(table.column(name).to_pylist())
        pq.write_table(table.set_column(place, name, values), path)

    return do


def bomb_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be an image of any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def bomb_npz(folder: Path) -> None:
    """An archive whose images decompress to a million times their size, as the header says."""
    head = npy(np.zeros((1, 12, 12), np.uint8)).replace(b"(1, 12, 12)", b"(9999999, 12, 12)")
    with zipfile.ZipFile(folder / "digits.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", head[:128] + bytes(10**7))
        archive.writestr("y_train.npy", npy(np.zeros(9999999, np.uint8)))


def many_members(folder: Path) -> None:
    """An archive of a thousand files."""
    with zipfile.ZipFile(folder / "digits.npz", "w") as archive:
        for number in range(1000):
            archive.writestr(f"{number}.npy", b"")


def bomb_csv(folder: Path) -> None:
    """An endless line, compressed."""
    (folder / "train.csv").unlink()
    with gzip.open(folder / "train.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(b"0," * 10**6)


def bomb_parquet(folder: Path) -> None:
    """One row of twenty million bytes, compressed to a few thousand."""
    table = pa.table({"image": [bytes(2 * 10**7)], "label": [0]})
    pq.write_table(table, folder / "train-00000-of-00001.parquet", compression="zstd")


def cut(content: bytes) -> bytes:
    """Drop the last third."""
    return content[: 2 * len(content) // 3]


def pickled(folder: Path) -> None:
    """Arrays of objects, which need a pickle."""
    write_npz(folder, SPLITS, x_train=np.full((60, 12, 12), None))


TRAIN_PARQUET = "train-00000-of-00001.parquet"
SHUT = png(np.zeros((12, 12), np.uint8))
COLOR = png(np.tile(np.array([255, 0, 0], np.uint8), (12, 12, 1)))

DAMAGES: dict[str, Damage] = {
    # Wrong size or type.
    "npz: images of the wrong size": Damage(
        "npz",
        arrays(x_train=lambda x: x[:, :, :11]),
        "image_size",
        "digits.npz: x_train has 60 x 12 x 11 values, expected N x 12 x 12",
    ),
    "npz: text instead of pixels": Damage(
        "npz", arrays(x_train=lambda x: x.astype(str)), "value_type", "x_train has type <U"
    ),
    "npz: pickled objects": Damage("npz", pickled, "value_type", "x_train has type object"),
    "csv: a line too short": Damage(
        "csv",
        text("train.csv", line(8, lambda row: row.rpartition(",")[0])),
        "image_size",
        "train.csv, line 8 has 144 values, expected 145: label and pixels",
        59,
    ),
    "csv: all lines too long": Damage(
        "csv",
        text("train.csv", lambda rows: [f"{row},0" for row in rows]),
        "value_type",
        "train.csv, line 1 has columns that are neither pixels nor labels: 0, expected only these",
    ),
    "csv: text instead of a pixel": Damage(
        "csv",
        text("train.csv", line(3, lambda row: row[:-1] + "x")),
        "value_type",
        "train.csv, line 3 has an invalid number: could not convert string to float",
        59,
    ),
    "folder: an image of the wrong size": Damage(
        "folder",
        picture("0/00000.png", png(np.zeros((14, 12), np.uint8))),
        "image_size",
        "train/0/00000.png is an image of 14 x 12 pixels, expected 12 x 12",
        60,
    ),
    "folder: a color image": Damage(
        "folder", picture("0/x.png", COLOR), "value_type", "has color or transparency (RGB)", 60
    ),
    "folder: a text file": Damage(
        "folder", picture("0/x.txt", b"notes"), "file_type", "0/x.txt starts with b'notes'", 60
    ),
    "parquet: bytes of the wrong size": Damage(
        "parquet",
        column("image", lambda rows: pa.array([*rows[:7], rows[7][:-1], *rows[8:]])),
        "image_size",
        "train-00000-of-00001.parquet, row 7 has 143 bytes, expected 12 x 12 pixels",
        59,
    ),
    "parquet: no image": Damage(
        "parquet",
        column("image", lambda rows: pa.array([None, *rows[1:]])),
        "image_size",
        "row 0 has no image",
        59,
    ),
    "parquet: text instead of images": Damage(
        "parquet",
        column("image", lambda rows: pa.array(["x"] * len(rows))),
        "value_type",
        "row 0 has text instead of an image (x)",
    ),
    "parquet: lists of different lengths": Damage(
        "parquet",
        column("image", lambda rows: pa.array([[1, 2], *map(list, rows[1:])])),
        "image_size",
        "row 0 has 2 values, expected 144 values",
        59,
    ),
    # Labels.
    "npz: a label too high": Damage(
        "npz", arrays(y_train=at(5, 10)), "label_unknown", "x_train, row 5 has the label '10'", 59
    ),
    "npz: a label below 0": Damage(
        "npz", arrays(y_train=at(5, -1, np.int64)), "label_unknown", "row 5 has the label '-1'", 59
    ),
    "npz: a fractional label": Damage(
        "npz", arrays(y_train=at(5, 0.5, float)), "label_unknown", "row 5 has the label '0.5'", 59
    ),
    "npz: no label": Damage(
        "npz", arrays(y_train=at(5, np.nan, float)), "label_missing", "row 5 has no label", 59
    ),
    "npz: no labels at all": Damage(
        "npz",
        lambda folder: np.savez(folder / "digits.npz", x_train=SPLITS["train"][0]),
        "label_missing",
        "digits.npz has x_train, but no y_train",
    ),
    "csv: an unknown class": Damage(
        "csv",
        text("train.csv", line(2, lambda row: f"seven{row[1:]}")),
        "label_unknown",
        "train.csv, line 2 has the label 'seven', expected one of the 10 classes 0, 1 ... 9",
        59,
    ),
    "csv: an empty label": Damage(
        "csv",
        text("train.csv", line(2, lambda row: row[1:])),
        "label_missing",
        "train.csv, line 2 has no label",
        59,
    ),
    "csv: no label column": Damage(
        "csv",
        text("train.csv", lambda rows: [row.partition(",")[2] for row in rows]),
        "label_missing",
        "train.csv, line 1 has 144 columns, expected one more, for the label",
    ),
    "folder: an unknown class": Damage(
        "folder", picture("ten/x.png", SHUT), "label_unknown", "has the label 'ten'", 60
    ),
    "parquet: no label": Damage(
        "parquet",
        column("label", lambda rows: pa.array([None, *rows[1:]], pa.int64())),
        "label_missing",
        "row 0 has no label",
        59,
    ),
    "parquet: no label column": Damage(
        "parquet",
        lambda folder: pq.write_table(
            pq.read_table(folder / TRAIN_PARQUET).drop_columns("label"), folder / TRAIN_PARQUET
        ),
        "label_missing",
        "has the columns image, expected labels in column label or labels or class",
    ),
    # Values.
    "npz: a pixel that is NaN": Damage(
        "npz",
        arrays(x_train=at(4, np.nan, np.float32)),
        "not_a_number",
        "x_train, row 4 has a missing or infinite pixel value, expected values from 0 to 255",
        59,
    ),
    "npz: an infinite pixel": Damage(
        "npz",
        arrays(x_train=at(4, np.inf, np.float32)),
        "not_a_number",
        "row 4 has a missing or infinite pixel",
        59,
    ),
    "csv: an empty pixel": Damage(
        "csv",
        text("train.csv", line(2, lambda row: row.rpartition(",")[0] + ",")),
        "not_a_number",
        "train.csv, line 2 has a missing or infinite pixel value",
        59,
    ),
    "npz: a pixel too bright": Damage(
        "npz", arrays(x_train=at(4, 300, int)), "pixel_range", "has values from 300 to 300", 59
    ),
    "npz: a pixel below 0": Damage(
        "npz", arrays(x_train=at(4, -1, int)), "pixel_range", "has values from -1 to -1", 59
    ),
    "npz: all pixels scaled": Damage(
        "npz",
        arrays(x_train=lambda x: x / 255),
        "already_scaled",
        "row 0 has no value above 1: its pixels are already scaled",
        0,
    ),
    "csv: the pixels of one image scaled": Damage(
        "csv",
        text(
            "train.csv",
            line(2, lambda row: row[:2] + ",".join(f"{int(x) / 255}" for x in row[2:].split(","))),
        ),
        "already_scaled",
        "train.csv, line 2 has no value above 1",
        59,
    ),
    "npz: swapped byte order": Damage(
        "npz",
        arrays(x_train=lambda x: x.astype("<u2").view(">u2")),
        "byte_order",
        "x_train, row 0 and later rows have the wrong byte order",
    ),
    # Files.
    "npz: more labels than images": Damage(
        "npz",
        arrays(y_train=lambda y: np.append(y, 0)),
        "count_mismatch",
        "x_train has 60 images, but y_train has 61 labels",
    ),
    "npz: truncated": Damage("npz", content("digits.npz", cut), "corrupt_file", "is truncated"),
    "npz: a bit flipped": Damage(
        "npz",
        content("digits.npz", lambda whole: whole[:900] + bytes([whole[900] ^ 4]) + whole[901:]),
        "corrupt_file",
        "digits.npz is not a valid .npz",
    ),
    "npz: empty": Damage("npz", content("digits.npz", lambda _: b""), "empty_file", "is empty"),
    "npz: no images": Damage(
        "npz", arrays(x_train=lambda x: x[:0], y_train=lambda y: y[:0]), "empty_file", "0 images"
    ),
    "npz: a bomb": Damage("npz", bomb_npz, "unbounded", "x_train has 9,999,999 images"),
    "npz: a thousand files": Damage("npz", many_members, "unbounded", "lists more than 100 files"),
    "csv: truncated": Damage(
        "csv", content("train.csv", lambda whole: whole[:-9]), "image_size", "line 61 has 1", 59
    ),
    "csv: empty": Damage("csv", content("train.csv", lambda _: b""), "empty_file", "is empty"),
    "csv: only a header": Damage(
        "csv", text("train.csv", lambda rows: rows[:1]), "empty_file", "train.csv has no rows"
    ),
    "csv: not text": Damage(
        "csv",
        content("train.csv", lambda _: b"\xff\xfe\0"),
        "corrupt_file",
        "train.csv, line 1 is not UTF-16",
    ),
    "csv: a bomb": Damage("csv", bomb_csv, "unbounded", "line 1 has more than"),
    "csv: a truncated .gz": Damage(
        "csv",
        truncated_gz,
        "corrupt_file",
        "train.csv.gz is not an intact .gz file: truncated",
    ),
    "folder: a truncated image": Damage(
        "folder",
        picture("0/x.png", cut(png(SPLITS["train"][0][0]))),
        "corrupt_file",
        "0/x.png is corrupted or truncated",
        60,
    ),
    "folder: an empty image": Damage(
        "folder", picture("0/x.png", b""), "empty_file", "0/x.png is empty", 60
    ),
    "folder: a bomb": Damage(
        "folder",
        picture("0/x.png", bomb_png(60_000, 60_000)),
        "unbounded",
        "0/x.png is an image of 60,000 x 60,000 pixels, expected 12 x 12",
        60,
    ),
    "folder: a pipe": Damage(
        "folder",
        lambda folder: os.mkfifo(folder / "train" / "0" / "x.png"),
        "file_type",
        "0/x.png is not a regular file",
        60,
    ),
    "parquet: truncated": Damage(
        "parquet", content(TRAIN_PARQUET, cut), "corrupt_file", "parquet cannot be read"
    ),
    "parquet: empty": Damage(
        "parquet", content(TRAIN_PARQUET, lambda _: b""), "empty_file", "parquet is empty"
    ),
    "parquet: a bomb": Damage("parquet", bomb_parquet, "unbounded", "bytes for 1 rows"),
}
