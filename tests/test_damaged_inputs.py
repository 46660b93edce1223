"""Corrupted batches in every layout: `digits dataset add` refuses them with the reason."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from html import unescape
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from digits.datasets.sources.idx import format_idx
from digits.datasets.splits import is_test
from digits.settings import Settings
from digits.storage.workspace import Workspace
from digits.thresholds import CheckName
from tests.support.commands import call_digits
from tests.support.damage import DAMAGES, write
from tests.support.handwriting import NUM_CLASSES, Pair, make_more, make_splits
from tests.support.layouts import WRITERS
from tests.support.runs import run_once
from tests.support.small_dataset import NAME, write_small_dataset

NUM_IMAGES = 150
DEFAULT_SHARE = 1 / 7


@dataclass(frozen=True)
class Spoiled:
    """An otherwise valid batch with one problem, and the checks that find it."""

    layout: str
    spoil: Callable[[Pair], Pair]
    checks: dict[CheckName, tuple[str, ...]]
    """The failing checks with their first invalid rows; no rows means the entire batch."""


def keep(is_kept: Callable[[Pair], np.ndarray]) -> Callable[[Pair], Pair]:
    def spoil(batch: Pair) -> Pair:
        rows = is_kept(batch)
        return batch[0][rows], batch[1][rows]

    return spoil


def rows(*places: int, by: Callable[[np.ndarray], np.ndarray]) -> Callable[[Pair], Pair]:
    """Change some images."""

    def spoil(batch: Pair) -> Pair:
        images = batch[0].copy()
        images[list(places)] = by(images[list(places)])
        return images, batch[1]

    return spoil


def every(by: Callable[[np.ndarray], np.ndarray]) -> Callable[[Pair], Pair]:
    """Change all images."""
    return lambda batch: (np.ascontiguousarray(by(batch[0])), batch[1])


def labeled(by: Callable[[np.ndarray], np.ndarray]) -> Callable[[Pair], Pair]:
    """Change all labels."""
    return lambda batch: (batch[0], by(batch[1]).astype(np.uint16))


def with_base(row: int, goes_to_test: bool, label_by: int = 0) -> Callable[[Pair], Pair]:
    """Replace a row by an image of the dataset that a batch would assign to the given split."""

    def spoil(batch: Pair) -> Pair:
        images, labels = batch[0].copy(), batch[1].copy()
        known, names = make_splits()["train"]
        place = np.flatnonzero(is_test(known, DEFAULT_SHARE) == goes_to_test)[0]
        images[row], labels[row] = known[place], (names[place] + label_by) % NUM_CLASSES
        return images, labels

    return spoil


def twice(label_by: int) -> Callable[[Pair], Pair]:
    """Copy the image of row 3 to row 20."""

    def spoil(batch: Pair) -> Pair:
        images, labels = batch[0].copy(), batch[1].copy()
        images[20], labels[20] = images[3], (labels[3] + label_by) % NUM_CLASSES
        return images, labels

    return spoil


WHOLE = ()
SPOILED = {
    "npz: a class is missing": Spoiled(
        "npz",
        keep(lambda batch: batch[1] != 7),
        {"classes_present": WHOLE, "label_divergence": WHOLE},
    ),
    "csv: the class distribution has drifted": Spoiled(
        "csv",
        keep(lambda batch: (batch[1] < 5) | (np.arange(len(batch[1])) % 5 == 0)),
        {"label_divergence": WHOLE},
    ),
    "npz: blank images": Spoiled(
        "npz",
        rows(5, 9, by=lambda images: images * 0 + np.array([40, 90], np.uint8)[:, None, None]),
        {"blank_images": ("digits.npz: x_train, row 5", "digits.npz: x_train, row 9")},
    ),
    "csv: a blank image": Spoiled(
        "csv", rows(5, by=lambda images: images * 0), {"blank_images": ("train.csv, line 7",)}
    ),
    "folder: a blank image": Spoiled(
        "folder", rows(5, by=lambda images: images * 0), {"blank_images": (r"new/train/\d/00005",)}
    ),
    "idx: inverted colors": Spoiled(
        "idx",
        every(lambda images: 255 - images),
        {
            "inverted_colours": ("train-images.idx, row 0", "train-images.idx, row 1"),
            "centroid_accuracy": WHOLE,
        },
    ),
    "parquet: some inverted images": Spoiled(
        "parquet",
        rows(*range(0, 80, 8), by=lambda images: 255 - images),
        {"inverted_colours": ("train-00000-of-00001.parquet, row 0", "row 8")},
    ),
    "npz: faded images": Spoiled(
        "npz", every(lambda images: images // 4), {"already_scaled": WHOLE}
    ),
    "npz: transposed images": Spoiled(
        "npz", every(lambda images: images.transpose(0, 2, 1)), {"centroid_accuracy": WHOLE}
    ),
    "parquet: mirrored images": Spoiled(
        "parquet", every(lambda images: images[:, :, ::-1]), {"centroid_accuracy": WHOLE}
    ),
    "idx: shifted images": Spoiled(
        "idx", every(lambda images: np.roll(images, 3, axis=2)), {"centroid_accuracy": WHOLE}
    ),
    "csv: shuffled labels": Spoiled(
        "csv",
        labeled(lambda labels: np.random.default_rng(1).permutation(labels)),
        {"centroid_accuracy": WHOLE},
    ),
    "folder: labels off by one": Spoiled(
        "folder", labeled(lambda labels: (labels + 1) % NUM_CLASSES), {"centroid_accuracy": WHOLE}
    ),
    "npz: a duplicated image": Spoiled(
        "npz", twice(label_by=0), {"duplicates": ("digits.npz: x_train, row 20",)}
    ),
    "parquet: an image with two labels": Spoiled(
        "parquet",
        twice(label_by=1),
        {
            "label_conflicts": ("parquet, row 3", "parquet, row 20"),
            "duplicates": ("parquet, row 20",),
        },
    ),
    "csv: an image of the dataset again": Spoiled(
        "csv", with_base(8, goes_to_test=False), {"known_images": ("train.csv, line 10",)}
    ),
    "npz: a training image that goes to the test split": Spoiled(
        "npz", with_base(8, goes_to_test=True), {"shared_images": ("digits.npz: x_train, row 8",)}
    ),
    "idx: an image of the dataset with another label": Spoiled(
        "idx",
        with_base(8, goes_to_test=False, label_by=1),
        {
            "known_images": ("train-images.idx, row 8",),
            "label_conflicts": ("train-images.idx, row 8",),
        },
    ),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A dataset with a champion, which refused batches must not change."""
    root = tmp_path_factory.mktemp("refused")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    write_small_dataset(settings)
    run_once(Workspace(settings))
    return settings


@pytest.fixture(autouse=True)
def _here(settings: Settings) -> Iterator[None]:
    folders = {
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
    }
    with patch.dict(os.environ, folders):
        yield


def state(settings: Settings) -> dict[Path, str]:
    """Digests of all files except locks and the quarantine."""
    quarantine = settings.data_dir / "quarantine"
    return {
        path: sha256(path.read_bytes()).hexdigest()
        for path in settings.data_dir.parent.rglob("*")
        if path.is_file() and path.suffix != ".lock" and not path.is_relative_to(quarantine)
    }


@dataclass(frozen=True)
class Refusal:
    """A refused batch: the output, the page, the result, and the kept originals."""

    line: str
    page: str
    result: dict[str, object]
    originals: Path

    @property
    def failed(self) -> dict[str, list[str]]:
        """The names of the invalid rows by check."""
        findings = self.result["findings"]
        assert isinstance(findings, list)
        return {f["check"]: f["names"] for f in findings if not f["success"]}


def refuse(files: list[Path], settings: Settings) -> Refusal:
    """Add files and check that they are refused."""
    before = state(settings)
    printed = call_digits("dataset", "add", "--dataset", NAME, *map(str, files))
    assert printed.exit_code == 1, printed.output
    assert state(settings) == before
    page = Path(printed.stdout.splitlines()[-1].removeprefix("Page: "))
    assert page.is_relative_to(settings.data_dir / "quarantine" / NAME)
    return Refusal(
        line=printed.stdout,
        page=unescape(re.sub(r"<[^>]+>|\s+", " ", page.read_text())),
        result=json.loads((page.parent / "result.json").read_text()),
        originals=page.parent / "originals",
    )


def write_batch(layout: str, batch: Pair, folder: Path) -> list[Path]:
    folder.mkdir()
    if layout == "npz":
        np.savez(folder / "digits.npz", x_train=batch[0], y_train=batch[1])
        return [folder / "digits.npz"]
    if layout == "idx":
        for kind, array in zip(("images", "labels"), batch, strict=True):
            (folder / f"train-{kind}.idx").write_bytes(format_idx(array.astype(np.uint8)))
        return sorted(folder.iterdir())
    return WRITERS[layout](folder, {"train": batch})


@pytest.mark.parametrize("name", SPOILED)
def test_a_batch_that_does_not_fit_its_dataset_is_refused_with_its_rows(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    spoiled = SPOILED[name]
    files = write_batch(spoiled.layout, spoiled.spoil(make_more(NUM_IMAGES, 3)), tmp_path / "new")

    refusal = refuse(files, settings)

    assert set(refusal.failed) == set(spoiled.checks)
    for check, expected in spoiled.checks.items():
        names = refusal.failed[check]
        for found, wanted in zip(names, expected, strict=len(expected) == len(names)):
            assert re.search(wanted, found)
            assert found in refusal.page
        assert bool(names) == bool(expected)
        assert f"({check})" in refusal.line
    assert {path.name for path in refusal.originals.iterdir()} == {path.name for path in files}


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.npz", "pipe.parquet", "pipe.png"])
def test_a_pipe_is_refused_and_not_waited_for(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / name)

    refusal = refuse([tmp_path / name], settings)

    assert set(refusal.failed) == {"file_type"}
    assert list(refusal.originals.iterdir()) == []


def test_a_folder_without_any_images_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("tomorrow")

    refusal = refuse([tmp_path / "new"], settings)

    assert set(refusal.failed) == {"file_type"}
    assert (refusal.originals / "new" / "notes.txt").exists()


def test_images_without_a_labels_file_are_refused(settings: Settings, tmp_path: Path) -> None:
    images, labels = write_batch("idx", make_more(NUM_IMAGES, 3), tmp_path / "new")
    labels.unlink()

    assert "train-images.idx has no labels file" in refuse([images], settings).line


@pytest.mark.parametrize("name", DAMAGES)
def test_corrupted_files_are_refused_with_the_reason(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    damage = DAMAGES[name]
    if damage.spec:
        pytest.skip("this damage needs another dataset spec")
    write(damage, tmp_path / "new")

    refusal = refuse(sorted((tmp_path / "new").iterdir()), settings)

    assert damage.check in refusal.failed
    said = damage.says.replace(f"{tmp_path}/new/", "")
    assert said in refusal.line
