import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.datasets.images import read_split
from digits.datasets.ingestion import ingest_dataset
from digits.datasets.sources.content import content_of
from digits.datasets.sources.idx import format_idx
from digits.errors import DataError, DigitsError
from digits.settings import Settings
from digits.spec import DatasetSpec, Layout, load_spec
from digits.storage.references import DatasetRef
from digits.storage.workspace import Workspace
from digits.thresholds import SPLITS
from tests.support.disks import full_disk
from tests.support.handwriting import Splits, make_splits
from tests.support.layouts import WRITERS
from tests.support.served import serve_npz, write_served_spec
from tests.support.server import Server
from tests.support.small_dataset import (
    NAME,
    SPEC,
    small_layout,
    write_raw,
    write_small_dataset,
    write_spec,
)
from tests.support.trainings import start_python


def ingest(workspace: Workspace, layout: Layout | None = None) -> DatasetRef:
    """Ingest the current files of the raw folder."""
    spec = load_spec(NAME, workspace.settings)
    content = content_of(spec, workspace.settings)
    return ingest_dataset(layout or spec.layout, content, spec.read_options, spec, workspace)


def ingest_splits(workspace: Workspace, splits: Splits) -> DatasetRef:
    write_small_dataset(workspace.settings, splits)
    return ingest(workspace)


def visible(workspace: Workspace) -> list[str]:
    """The names of the bundles in the store, and of any leftovers of a writer."""
    root = workspace.store.root("datasets")
    return [path.name for path in root.glob("*") if path.suffix != ".lock"]


def test_the_files_become_a_typed_dataset_in_the_store(workspace: Workspace) -> None:
    splits = make_splits()

    dataset = ingest_splits(workspace, splits)

    workspace.store.verify(dataset)
    assert (dataset.num_train, dataset.num_test) == (600, 200)
    assert dataset.layout == small_layout()
    for split in SPLITS:
        path = workspace.store.folder(dataset) / f"{split}.parquet"
        for read, written in zip(read_split(path, dataset.layout), splits[split], strict=True):
            np.testing.assert_array_equal(read, written)


def test_equal_files_are_one_dataset_whatever_their_source(
    workspace: Workspace, server: Server
) -> None:
    spec = write_served_spec(workspace.settings, serve_npz(server))
    assert spec.content is not None
    fetched = ingest_dataset(spec.layout, spec.content, spec.read_options, spec, workspace)

    local = ingest_splits(workspace, make_splits())

    assert local == fetched
    assert visible(workspace) == [fetched.digest]


def changed(split: str, array: int, index: Any) -> Splits:
    """The dataset with one changed value in the images (0) or labels (1) of a split."""
    splits = make_splits()
    values = splits[split][array]  # type: ignore[index]
    values[index] = (values[index] + 1) % 10
    return splits


@pytest.mark.parametrize(
    ("splits", "is_other_test"),
    [
        (changed("train", 0, (599, 5, 5)), False),
        (changed("train", 1, 0), False),
        (changed("test", 0, (0, 11, 11)), True),
        (changed("test", 1, 199), True),
    ],
    ids=["train pixel", "train label", "test pixel", "test label"],
)
def test_one_changed_value_makes_another_dataset(
    splits: Splits, is_other_test: bool, workspace: Workspace
) -> None:
    before = ingest_splits(workspace, make_splits())

    after = ingest_splits(workspace, splits)

    assert after.digest != before.digest
    assert after.content_digest != before.content_digest
    assert (after.test_digest != before.test_digest) == is_other_test


def test_other_class_names_make_another_dataset(workspace: Workspace) -> None:
    before = ingest_splits(workspace, make_splits())

    after = ingest(workspace, before.layout.model_copy(update={"class_names": tuple("abcdefghij")}))

    assert after.content_digest != before.content_digest
    assert after.test_digest == before.test_digest


DAMAGE: Mapping[str, tuple[str, bytes, str]] = {
    "truncated": (
        "test-images",
        format_idx(make_splits()["test"][0])[:-1],
        "test-images.idx is truncated",
    ),
    "not a dataset": ("train-labels", b"<html>", "train-labels.idx is a web page"),
    "a label too high": (
        "test-labels",
        format_idx(np.full(200, 10)),
        "test-images.idx, row 0 has the label '10', expected one of the 10 classes 0, 1 ... 9",
    ),
    "too few labels": (
        "train-labels",
        format_idx(np.zeros(599)),
        "train-labels.idx has 599 labels, expected as many of each",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_invalid_files_leave_nothing_in_the_store(damage: str, workspace: Workspace) -> None:
    role, content, message = DAMAGE[damage]
    write_small_dataset(workspace.settings)
    write_raw(workspace.settings, role, content)

    with pytest.raises(DataError, match=message):
        ingest(workspace)

    assert visible(workspace) == []


def test_missing_files_leave_nothing_in_the_store(workspace: Workspace) -> None:
    spec: DatasetSpec = write_served_spec(workspace.settings)
    assert spec.content is not None

    with pytest.raises(DataError, match="cannot get the files of handwriting"):
        ingest_dataset(spec.layout, spec.content, spec.read_options, spec, workspace)

    assert visible(workspace) == []


def test_a_full_disk_leaves_nothing_in_the_store(workspace: Workspace) -> None:
    write_small_dataset(workspace.settings)

    with full_disk(10_000), pytest.raises(DigitsError, match=r"cannot write to .*File too large"):
        ingest(workspace)

    assert visible(workspace) == []
    workspace.store.verify(ingest(workspace))


MEASURE = """
from pathlib import Path
from digits.spec import load_spec
from digits.datasets.ingestion import ingest_dataset
from digits.settings import Settings
from digits.datasets.sources.content import content_of
from digits.storage.workspace import Workspace

settings = Settings()
spec = load_spec("handwriting", settings)
content = content_of(spec, settings)
dataset = ingest_dataset(spec.layout, content, spec.read_options, spec, Workspace(settings))
# Not ru_maxrss, which includes the memory of the parent process.
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(dataset.num_train + dataset.num_test, peak)
"""


def peak_of_ingesting(layout: str, num_images: int, folder: Path) -> int:
    """Peak memory, in kilobytes, of a process that ingests this many images."""
    settings = Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts")
    (settings.raw_dir / NAME).mkdir(parents=True)
    # Each image has its number in its first pixels; the rest compresses well.
    images = np.zeros((num_images, 28, 28), np.uint8)
    images.reshape(num_images, -1)[:, :4] = np.arange(num_images, dtype=">u4")[:, None].view(">u1")
    splits: Splits = {"train": (images, (np.arange(num_images) % 10).astype(np.uint16))}
    WRITERS[layout](settings.raw_dir / NAME, splits)
    write_spec(settings, f'layout = "{layout}"\n{SPEC.replace("[12, 12]", "[28, 28]")}')
    process = start_python(
        "-c",
        MEASURE,
        DIGITS_DATA_DIR=str(settings.data_dir),
        DIGITS_ARTIFACTS_DIR=str(settings.artifacts_dir),
    )
    found, peak = process.communicate()[0].split()
    assert int(found) == num_images
    return int(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report memory differently")
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["idx", "npz", "parquet"])
def test_ten_times_as_many_images_need_no_more_memory(layout: str, tmp_path: Path) -> None:
    # Enough to fill some row groups of each split. The additional images have 226 MB, about as much
    # as the entire process needs for the few: half of them at once would exceed the bound.
    few = peak_of_ingesting(layout, 32_000, tmp_path / "few")
    many = peak_of_ingesting(layout, 320_000, tmp_path / "many")

    assert many <= 1.4 * few
