"""One decision for all CSV files of a dataset: header, label, index and order of the pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from digits.datasets.defects import DefectError, Defects
from digits.datasets.formats.readers import read_chunks
from digits.datasets.formats.tables.csv_columns import label_place
from tests.support.handwriting import make_splits
from tests.support.layouts import make_spec, read_all, refused

IMAGES, LABELS = (array[:240] for array in make_splits()["train"])
FLAT = IMAGES.reshape(len(IMAGES), -1)
PIXELS = [f"px{place}" for place in range(144)]
FIRST, LAST = np.column_stack([LABELS, FLAT]), np.column_stack([FLAT, LABELS])


def write(path: Path, rows: Any, names: list[str] | None = None, separator: str = ",") -> Path:
    lines = [separator.join(map(str, row)) for row in [*([names] if names else []), *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def is_read(files: list[Path], **spec: Any) -> None:
    """Check that the files give all images and labels, in their order."""
    ((images, labels, _),) = read_all("csv", files, **spec)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(images, IMAGES)


def test_a_header_counts_for_the_parts_that_have_none(tmp_path: Path) -> None:
    names = [*PIXELS, "label"]
    parts = [
        write(tmp_path / "part-aa.csv", LAST[:100], names),
        write(tmp_path / "part-ab.csv", LAST[100:230]),
        # Too few rows to see where the labels are.
        write(tmp_path / "part-ac.csv", LAST[230:]),
    ]

    is_read(parts)
    assert label_place(parts) is None


def test_parts_may_come_before_the_header(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "a.csv", LAST[:100]),
        write(tmp_path / "b.csv", LAST[100:], [*PIXELS, "label"]),
    ]

    is_read(parts)


def test_the_label_may_be_at_another_place_if_each_header_names_it(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "a.csv", LAST[:100], [*PIXELS, "kind"]),
        write(tmp_path / "b.csv", FIRST[100:], ["kind", *PIXELS]),
    ]

    is_read(parts)


def test_a_part_that_contradicts_the_header_is_refused(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.csv", FIRST[:100], ["label", *PIXELS]),
        write(tmp_path / "b.csv", LAST[100:]),
    ]

    message = refused("csv", files)

    assert "b.csv seems to have its labels in column 144" in message
    assert "a.csv names them in column 0" in message


def test_parts_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.csv", FIRST[:100]),
        write(tmp_path / "b.csv", LAST[100:]),
    ]

    assert "b.csv seems to have its labels in column 144, but" in refused("csv", files)
    with pytest.raises(DefectError, match=r"a\.csv seems to have them in column 0"):
        label_place(files)


def test_headers_of_other_pixels_are_refused(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.csv", FIRST[:100], ["label", *PIXELS]),
        write(tmp_path / "b.csv", FIRST[100:], ["label", *reversed(PIXELS)]),
    ]
    # Numbered pixels have an order; others must be the same in each file.
    is_not_read = [
        write(tmp_path / "c.csv", FIRST[:100], ["label", *(f"{name}a" for name in PIXELS)]),
        write(tmp_path / "d.csv", FIRST[100:], ["label", *(f"{name}b" for name in PIXELS)]),
    ]

    ((images, _, _),) = read_all("csv", files)
    np.testing.assert_array_equal(images[100:], IMAGES[100:, ::-1, ::-1])
    assert "d.csv, line 1 names other columns than" in refused("csv", is_not_read)


def test_a_part_of_another_width_is_refused(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.csv", FIRST[:100]),
        write(tmp_path / "b.csv", FIRST[100:, :-1]),
    ]

    assert "b.csv, line 1 has 144 columns" in refused("csv", files)


@pytest.mark.parametrize("has_names", [True, False])
def test_an_index_column_is_left_out_and_said(has_names: bool, tmp_path: Path) -> None:
    frame = pd.DataFrame(FLAT, columns=PIXELS)
    frame.insert(0, "label", LABELS)
    path = tmp_path / "x.csv"
    frame.to_csv(path, header=has_names)
    defects = Defects()

    (chunk,) = read_chunks([path], make_spec("csv"), defects)

    np.testing.assert_array_equal(chunk.labels, LABELS)
    np.testing.assert_array_equal(chunk.images, IMAGES)
    assert defects.notes == (f"{path}: the first column numbers the rows; it is not read",)


def test_pixels_are_put_into_the_order_of_their_numbers(tmp_path: Path) -> None:
    order = sorted(range(144), key=str)
    path = write(
        tmp_path / "x.csv",
        FIRST[:, [0, *(1 + place for place in order)]],
        ["label", *(PIXELS[place] for place in order)],
    )

    is_read([path])


def test_a_batch_without_a_header_is_read_by_its_values(tmp_path: Path) -> None:
    is_read([write(tmp_path / "x.csv", LAST)])
    is_read([write(tmp_path / "y.csv", FIRST)])


def test_a_label_column_that_the_header_contradicts_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", LAST, [*PIXELS, "label"])

    message = refused("csv", [path], label_column=0)

    assert "names column 144 label, and column 0 px0, expected the label in column 0" in message


@pytest.mark.parametrize("has_names", [True, False])
@pytest.mark.parametrize("separator", [";", "\t", "|", "  "])
def test_any_usual_separator_is_found(separator: str, has_names: bool, tmp_path: Path) -> None:
    names = ["label", *PIXELS] if has_names else None

    is_read([write(tmp_path / "x.csv", FIRST, names, separator)])


def test_numpy_savetxt_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for header in ("", " ".join(["label", *PIXELS])):
        np.savetxt(path, FIRST, header=header)
        is_read([path])
        assert label_place([path]) == (None if header else 0)
    np.savetxt(path, FIRST, delimiter=",", header=",".join(["label", *PIXELS]))
    is_read([path])


def test_decimal_commas_are_read_between_semicolons(tmp_path: Path) -> None:
    frame = pd.DataFrame(FLAT / 255, columns=PIXELS)
    frame.insert(0, "label", LABELS)
    frame.to_csv(tmp_path / "x.csv", sep=";", decimal=",", index=False)

    is_read([tmp_path / "x.csv"], pixel_range=[0, 1])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_text_of_other_encodings_is_read(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", FIRST, ["label", *PIXELS])
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))

    is_read([path])


def test_comments_and_excels_first_line_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", FIRST, ["label", *PIXELS], ";")
    for start in ("# my digits; of today\n# second line\n", "sep=;\n"):
        (tmp_path / "y.csv").write_text(start + path.read_text())
        is_read([tmp_path / "y.csv"])


def test_rows_whose_label_begins_with_a_hash_are_rows(tmp_path: Path) -> None:
    names = [f"#{number}" for number in range(10)]
    rows = [[names[label], *pixels] for label, pixels in zip(LABELS, FLAT, strict=True)]

    is_read([write(tmp_path / "x.csv", rows)], class_names=names)


def test_a_separator_at_the_end_of_each_line_is_no_column(tmp_path: Path) -> None:
    rows = [[*row, ""] for row in FIRST.tolist()]

    is_read([write(tmp_path / "x.csv", rows)])
    rows[7][-1] = "5"
    assert "line 8 has 146 values" in refused("csv", [write(tmp_path / "x.csv", rows)])


def test_text_that_is_not_utf_8_is_refused_with_the_conversion(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", FIRST)
    lines = path.read_bytes().split(b"\n")
    lines[4] = b"\xe9t\xe9" + lines[4][1:]
    path.write_bytes(b"\n".join(lines))

    message = refused("csv", [path])

    assert "line 5 is not text" in message
    assert "iconv -f LATIN1 -t UTF-8" in message


@pytest.mark.parametrize("extra", ["split", "weight"])
def test_a_column_beside_numbered_pixels_is_named(extra: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(FLAT, columns=PIXELS).assign(label=LABELS, **{extra: 3})
    frame.to_csv(tmp_path / "x.csv", index=False)

    message = refused("csv", [tmp_path / "x.csv"], image_shape=[12, 12])

    assert f"neither pixels nor labels: {extra}, expected only these; drop the others" in message


def test_a_column_of_numbers_of_the_rows_is_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame(FLAT, columns=PIXELS).assign(label=LABELS)
    frame.to_csv(tmp_path / "x.csv", index_label="id")

    is_read([tmp_path / "x.csv"])


def test_line_ends_of_old_macs_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", np.tile(FIRST, (20, 1)))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))

    assert r"tr '\r' '\n'" in refused("csv", [path])


def test_a_label_column_by_name_needs_a_header(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.csv", FIRST)]

    assert "has no header, expected a header with a label column named kind" in refused(
        "csv", files, label_column="kind"
    )
