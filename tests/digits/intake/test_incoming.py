import logging
from pathlib import Path

import pytest

from digits.intake.incoming import Addition, incoming_folder, refusals, waiting
from digits.settings import Settings
from tests.support.small_dataset import NAME


@pytest.fixture
def folder(settings: Settings) -> Path:
    folder = incoming_folder(NAME, settings)
    folder.mkdir(parents=True)
    return folder


def names(settings: Settings) -> list[str]:
    return [entry.name for entry in waiting(NAME, settings)]


def test_without_an_incoming_folder_nothing_is_waiting(settings: Settings) -> None:
    assert names(settings) == []


def test_each_file_and_each_folder_is_a_batch_in_order_of_name(
    folder: Path, settings: Settings
) -> None:
    for name in ("c.npz", "a.csv", "d.parquet"):
        (folder / name).touch()
    (folder / "b").mkdir()

    assert names(settings) == ["a.csv", "b", "c.npz", "d.parquet"]


@pytest.mark.parametrize("name", [".a.csv", "a.csv.part", ".a.csv.x7Kd"])
def test_files_still_being_written_are_left_alone(
    name: str, folder: Path, settings: Settings
) -> None:
    (folder / name).touch()

    assert names(settings) == []


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images.idx", "train-labels.idx"),
        ("march-images-idx3-ubyte.gz", "march-labels-idx1-ubyte.gz"),
        ("images.idx.gz", "labels.idx"),
        ("new.images.idx3-ubyte", "new.labels.idx1-ubyte"),
        ("qmnist-test-images-idx3-ubyte.gz", "qmnist-test-labels-idx2-int.gz"),
        ("x_train.npy", "y_train.npy"),
    ],
)
def test_a_pair_of_idx_files_is_one_batch_once_both_exist(
    images: str, labels: str, folder: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (folder / images).touch()

    assert names(settings) == []
    assert f"{folder / images}: waiting for the matching labels file" in caplog.text
    (folder / labels).touch()
    assert names(settings) == [f"{images} and {labels}"]


def test_pairs_are_matched_by_name(folder: Path, settings: Settings) -> None:
    for name in ("train-images", "train-labels", "test-images", "test-labels"):
        (folder / f"{name}.idx").touch()

    assert names(settings) == [
        "test-images.idx and test-labels.idx",
        "train-images.idx and train-labels.idx",
    ]


def test_two_files_for_one_half_of_a_pair_are_one_batch(folder: Path, settings: Settings) -> None:
    for name in ("a-images.idx", "a-images.idx.gz", "a-labels.idx"):
        (folder / name).touch()

    assert names(settings) == ["a-images.idx and a-images.idx.gz and a-labels.idx"]


def test_files_of_operating_systems_are_no_batches(folder: Path, settings: Settings) -> None:
    for name in ("Thumbs.db", "desktop.ini", "._a.csv"):
        (folder / name).touch()
    (folder / "__MACOSX").mkdir()

    assert names(settings) == []


def test_pages_of_refusals_are_listed_while_they_exist(settings: Settings) -> None:
    folder = settings.data_dir / "quarantine" / NAME
    for name in ("b", "a", ".tmp-c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "page.html").touch()

    assert refusals(NAME, settings) == [folder / "a" / "page.html", folder / "b" / "page.html"]


def test_an_outcome_is_described_in_one_line() -> None:
    facts = {"dataset": NAME, "source": "a.npz", "version": 3}
    refused = Addition(status="quarantined", reasons=("one", "two"), page=Path("/p.html"), **facts)

    assert Addition(status="known", batch="a" * 64, **facts).describe() == (
        f"a.npz: {NAME} already has this batch (aaaaaaaaaaaa) and stays at dataset version 3"
    )
    assert refused.describe() == (
        f"a.npz: refused, nothing was added to {NAME}: one; two; see /p.html"
    )
