"""Each defect of source files is reported with its rows, according to its severity."""

import logging
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.defects import DefectError, Defects
from digits.datasets.formats.readers import read_chunks
from digits.errors import DataError
from digits.thresholds import DEFECTS
from tests.support.damage import DAMAGES, write
from tests.support.handwriting import make_splits
from tests.support.layouts import make_spec, write_npz
from tests.support.memory import peak_memory


def read(name: str, files: list[Path], **severity: str) -> tuple[int, Defects]:
    """Return the number of valid training rows, and the defects."""
    damage = DAMAGES[name]
    spec = make_spec(damage.layout, **damage.spec)
    defects = Defects(severity)  # type: ignore[arg-type]
    with peak_memory(at_most=50_000_000):
        chunks = list(read_chunks(files, spec, defects))
    return sum(len(chunk.images) for chunk in chunks if chunk.split != "test"), defects


@pytest.mark.parametrize("name", DAMAGES)
def test_corrupted_files_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    damage = DAMAGES[name]
    files = write(damage, tmp_path)
    if damage.layout != "folder":
        files = sorted(tmp_path.iterdir())

    with pytest.raises(DataError) as caught:
        read(name, files)[1].enforce()

    line = str(caught.value).replace(f"{tmp_path}/", "")
    assert damage.says in line
    assert f"({damage.check})" in line or "truncated" in line or "is not a" in line
    assert "\n" not in line
    assert isinstance(caught.value, DefectError) == (damage.leaves_rows is None)


@pytest.mark.parametrize(
    "name", [name for name in DAMAGES if DAMAGES[name].leaves_rows is not None]
)
def test_with_severity_warning_the_invalid_rows_are_skipped_and_named(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage = DAMAGES[name]
    files = write(damage, tmp_path)

    num_rows, defects = read(name, files, **{damage.check: "warning"})
    with caplog.at_level(logging.WARNING):
        defects.enforce()

    assert num_rows == damage.leaves_rows
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("skipped: ")
    assert damage.says in message.replace(f"{tmp_path}/", "")


def test_with_severity_off_rows_are_skipped_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write(DAMAGES["npz: a label too high"], tmp_path)

    num_rows, defects = read("npz: a label too high", files, label_unknown="off")
    defects.enforce()

    assert num_rows == 59
    assert not caplog.records
    assert [(defect.check, defect.count) for defect in defects.of("off")] == [("label_unknown", 1)]


def test_all_defects_are_reported_at_once_with_their_first_rows(tmp_path: Path) -> None:
    images, labels = make_splits()["train"]
    labels = labels.astype(np.int64)
    labels[100:400] = 77
    pixels = images.astype(np.float64)
    pixels[[7, 9]] = np.nan
    files = write_npz(tmp_path, make_splits(), x_train=pixels, y_train=labels)
    defects = Defects()
    chunks = list(read_chunks(files, make_spec("npz"), defects))

    with pytest.raises(DataError) as caught:
        defects.enforce()

    assert sum(len(chunk.images) for chunk in chunks if chunk.split == "train") == 298
    assert str(caught.value).replace(str(files[0]), "F") == (
        "F: x_train, row 100 has the label '77', expected one of the 10 classes 0, 1 ... 9; 299 "
        "more, such as F: x_train, row 101, F: x_train, row 102, F: x_train, row 103, F: x_train, "
        "row 104 (label_unknown); F: x_train, row 7 has a missing or infinite pixel value, "
        "expected values from 0 to 255; 1 more, such as F: x_train, row 9 (not_a_number). Fix the "
        'data, or leave out the affected images by setting label_unknown = "warning" and '
        'not_a_number = "warning" under [thresholds.severity] in the dataset spec'
    )


def test_every_check_has_a_damage() -> None:
    assert {damage.check for damage in DAMAGES.values()} == set(DEFECTS)
