"""Bounds follow a corrected spec, and what was changed by hand stays."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from digits.errors import UsageError
from digits.intake.proposals.proposal import Wishes, propose
from digits.intake.proposals.remeasuring import Remeasured, measure_again
from digits.labeling.centering import centered
from digits.settings import Settings
from digits.spec import load_spec
from digits.validation.centroids import load_centroids
from tests.support.handwriting import make_splits
from tests.support.layouts import write_npz


@pytest.fixture
def path(settings: Settings, tmp_path: Path) -> Path:
    """The spec of a new dataset whose images are transposed, which its author has not noticed."""
    (tmp_path / "files").mkdir()
    splits = {split: (images.swapaxes(1, 2), y) for split, (images, y) in make_splits().items()}
    write_npz(tmp_path / "files", splits)
    return propose("mine", tmp_path / "files", Wishes(), settings, centered).path


def again(settings: Settings) -> Remeasured:
    return measure_again("mine", settings, centered)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_an_unchanged_spec_stays_as_it_is(path: Path, settings: Settings) -> None:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    assert again(settings).changes == {}
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_bounds_and_mean_images_follow_a_correction(path: Path, settings: Settings) -> None:
    edit(path, "num_classes", "transposed = true\nnum_classes")
    edit(path, "pixel_range = [0, 255]", "pixel_range = [0, 510]")

    changes = again(settings).changes

    assert changes["thresholds.train.min_pixel_max"] == (191, 96)
    spec = load_spec("mine", settings)
    assert spec.thresholds.train.of("pixel_max") == (96, None)
    assert spec.thresholds.centroids is not None
    means = load_centroids(spec.thresholds.centroids, settings.datasets_dirs, (12, 12), 10)
    images, labels = make_splits()["train"]
    expected = images[labels == 4].mean(axis=0) / 2
    # Halving and averaging each round to whole numbers.
    assert np.abs(means[4] - expected).max() <= 1
    assert len(list(path.parent.iterdir())) == 2


def test_changes_by_hand_and_comments_are_kept(path: Path, settings: Settings) -> None:
    edit(path, 'title = "mine"', '# Ours.\ntitle = "Our digits"  # since May')
    edit(path, "floor = 0.55", "floor = 0.8  # agreed")
    edit(path, "[thresholds.train]\n", "[thresholds.train]\nnum_images = 600\n")
    edit(path, "max_duplicates = 6\n", "")
    edit(path, "min_pixel_max = 191", "min_pixel_max = 190")
    edit(path, "pixel_range = [0, 255]", "pixel_range = [0, 510]")

    remeasured = again(settings)

    assert set(remeasured.kept) == {
        "floor",
        "thresholds.train.max_duplicates",
        "thresholds.train.min_pixel_max",
    }
    text = path.read_text()
    for kept in ("# Ours.\n", 'title = "Our digits"  # since May', "floor = 0.8  # agreed"):
        assert kept in text
    train = tomllib.loads(text)["thresholds"]["train"]
    assert train["num_images"] == 600
    assert "max_duplicates" not in train
    assert train["min_pixel_max"] == 190
    assert tomllib.loads(text)["thresholds"]["test"]["min_pixel_max"] == 96
    # What was kept once is kept again.
    assert again(settings).kept == remeasured.kept


def test_bounds_that_were_not_measured_before_are_added(path: Path, settings: Settings) -> None:
    # As if the files had been sorted by class, which repeats labels and gives no such bound.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("max_label_repeats")))
    edit(path, "thresholds.train.max_label_repeats=", "x=")

    old, new = again(settings).changes["thresholds.train.max_label_repeats"]

    assert (old, new) == (None, load_spec("mine", settings).thresholds.train.max_label_repeats)
    # The other one was deleted by hand, which turns it off.
    assert load_spec("mine", settings).thresholds.test.max_label_repeats is None


@pytest.mark.parametrize("name", ["mine", "mnist"])
def test_bounds_written_by_hand_are_not_replaced(name: str, path: Path, settings: Settings) -> None:
    text = path.read_text()
    path.write_text(text[: text.index("# What was measured")])

    with pytest.raises(UsageError, match="were not measured by this version of `digits dataset"):
        measure_again(name, settings, centered)


def test_a_spec_that_cannot_be_edited_is_left_as_it_is(path: Path, settings: Settings) -> None:
    edit(path, "pixel_range = [0, 255]", "pixel_range = [0, 510]")
    head, _, tail = path.read_text().partition("[thresholds.test]\n")
    bounds, _, comments = tail.partition("\n\n")
    inline = ", ".join(bounds.splitlines())
    head = head.replace("[thresholds]\n", f"[thresholds]\ntest = {{ {inline} }}\n")
    path.write_text(f"{head}\n{comments}")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    with pytest.raises(UsageError, match="cannot be edited, so it was not changed"):
        again(settings)

    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
