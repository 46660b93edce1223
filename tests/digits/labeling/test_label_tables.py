import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from digits.inference.loaded_versions import LoadedVersion
from digits.labeling import label_tables
from digits.labeling.label_reports import LabelReport, Measure, label_page
from digits.labeling.label_tables import label_pictures
from digits.storage.workspace import Workspace
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME

IMAGES, LABELS = make_splits()["test"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """All test images and one missing file."""
    paths = [tmp_path / f"{number}.png" for number in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    return [*map(str, paths), str(tmp_path / "nothing.png")]


@pytest.mark.parametrize("row_group", [8192, 70])
def test_every_file_has_a_row(
    champion: LoadedVersion,
    crowned: Workspace,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    row_group: int,
) -> None:
    monkeypatch.setattr(label_tables, "ROW_GROUP", row_group)
    path = Path(files[0]).parent / "new" / "labels.parquet"

    report = label_pictures(files, champion, path, crowned, as_is=True)

    table = pq.read_table(path, page_checksum_verification=True)
    assert table.schema.names == ["file", "label", "probability", "error", "note"]
    assert table["file"].to_pylist() == files
    labels = table["label"].to_pylist()
    assert (np.array(labels[:-1]) == LABELS).mean() == champion.model.accuracy
    assert all(0.1 <= probability <= 1 for probability in table["probability"].to_pylist()[:-1])
    assert table.slice(len(IMAGES)).to_pylist() == [
        {
            "file": files[-1],
            "label": None,
            "probability": None,
            "error": "does not exist",
            "note": None,
        }
    ]
    assert table["error"].null_count == len(IMAGES)
    assert report.num_labelled == len(IMAGES)
    assert report.num_refused == 1
    assert report.class_counts == {str(n): labels.count(n) for n in range(10)}
    assert list(path.parent.iterdir()) == [path]


def test_the_datasets_own_test_images_have_not_drifted_but_inverted_ones_have(
    champion: LoadedVersion, crowned: Workspace, files: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "labels.parquet"
    report = label_pictures(files, champion, path, crowned, as_is=True)
    for name, image in zip(files, IMAGES, strict=False):
        Image.fromarray(255 - image).save(name)

    inverted = label_pictures(files, champion, path, crowned, as_is=True)

    assert report.drifted == ()
    assert {"mean pixel", "ink"} <= set(inverted.drifted)


def test_an_error_leaves_the_existing_file_unchanged(
    champion: LoadedVersion, crowned: Workspace, files: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "out" / "labels.parquet"
    path.parent.mkdir()
    path.write_bytes(b"of yesterday")

    def broken() -> Iterator[str]:
        yield from files
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        label_pictures(broken(), champion, path, crowned, as_is=True)

    assert path.read_bytes() == b"of yesterday"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_name_that_is_not_utf8_is_escaped(
    champion: LoadedVersion, crowned: Workspace, tmp_path: Path
) -> None:
    name = os.fsdecode(b"\xff.png")

    label_pictures([name], champion, tmp_path / "l.parquet", crowned, as_is=True)

    assert pq.read_table(tmp_path / "l.parquet")["file"].to_pylist() == ["\\udcff.png"]


def report_with(*measures: Measure, **changes: object) -> LabelReport:
    facts = {
        "path": Path("labels.parquet"),
        "dataset": NAME,
        "version": 3,
        "class_counts": {"0": 1500, "1": 500},
        "num_refused": 7,
        "drift": measures,
    }
    return LabelReport.model_validate(facts | changes)


def test_the_page_says_what_drifted() -> None:
    calm = Measure(name="ink", index=0.01, limit=0.1, expected=0.13, found=0.14)
    moved = Measure(name="labels", index=0.4, limit=0.1)

    page = label_page(report_with(calm, moved))

    assert "**2,000** images labeled by version 3 of handwriting; 7 could not be labeled" in page
    assert "Drift from the champion's training data: labels." in page
    assert "| ink | 0.130 | 0.140 | 0.010 | 0.100 | no |" in page
    assert "| labels |  |  | 0.400 | 0.100 | yes |" in page
    assert "| 0 | 1,500 | 75.0% |" in page


def test_the_page_claims_nothing_without_drift_or_images() -> None:
    calm = Measure(name="ink", index=0.01, limit=0.1, expected=0.13, found=0.14)

    assert "No drift from the champion's training data was found." in label_page(report_with(calm))
    assert "Nothing was labeled." in label_page(report_with(class_counts={"0": 0, "1": 0}))


def test_what_is_not_labeled_in_a_folder_is_in_the_report(
    champion: LoadedVersion, crowned: Workspace, tmp_path: Path
) -> None:
    folder, path = tmp_path / "pictures", tmp_path / "labels.parquet"
    folder.mkdir()
    page = np.full((60, 120), 255, np.uint8)
    page[10:50, 30:36] = page[10:50, 70:76] = 0
    Image.fromarray(page).save(folder / "two.png")
    (folder / "photo.heic").touch()

    report = label_pictures([str(folder)], champion, path, crowned, as_is=False)

    assert pq.read_table(path)["note"].to_pylist() == ["2 parts side by side"]
    (sentence,) = report.passed
    assert "1 .heic" in sentence
    assert sentence in label_page(report)
