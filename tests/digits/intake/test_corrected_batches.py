import itertools
import signal
from pathlib import Path

import numpy as np
import pytest

from digits.datasets.images import Images
from digits.errors import DataError
from digits.intake.additions import add_all_incoming
from digits.intake.batch_files import read_rows
from digits.intake.corrected_batches import pass_on, waiting_corrections
from digits.intake.corrections import (
    Correction,
    corrections,
    corrections_folder,
    feedback_folder,
    keep_correction,
)
from digits.intake.incoming import incoming_folder, waiting
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.workspace import Workspace
from tests.support.handwriting import make_more
from tests.support.killed import call_killed
from tests.support.small_dataset import NAME, write_spec

PLAIN = """
title = "Test"
image_shape = [12, 12]
num_classes = 10
floor = 0.2
"""
# Whatever a spec says about files, a batch of corrections is read as it was kept.
SPECS = {
    "digits": PLAIN,
    "letters": PLAIN + 'class_names = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]',
    "counted from 1": PLAIN + "first_label = 1",
    "with slashes": PLAIN + 'class_names = ["0/1", "1/2", "2", "3", "4", "5", "6", "7", "8", "9"]',
    "transposed": PLAIN.replace("[12, 12]", "[12, 10]") + "transposed = true",
    "few values": PLAIN + "pixel_range = [0, 16]",
    "around zero": PLAIN + "pixel_range = [-0.5, 2.5]",
    "16 bits": PLAIN + "pixel_range = [0, 65535]",
}


def keep(settings: Settings, spec: DatasetSpec, image: Images, label: int) -> None:
    keep_correction(Correction(image, label, 8, version=1), spec.layout, settings)


def keep_some(settings: Settings, spec: DatasetSpec, num: int = 4) -> dict[bytes, int]:
    """Keep corrections, and return the label of each by its pixels."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (num, *spec.image_shape), np.uint8)
    for label, image in enumerate(images):
        keep(settings, spec, image, label)
    return {image.tobytes(): label for label, image in enumerate(images)}


def in_batches(settings: Settings, spec: DatasetSpec) -> list[tuple[bytes, int]]:
    """Return pixels and label of all images in the incoming folder."""
    found = []
    for entry in waiting(NAME, settings):
        rows, problems = read_rows(entry.paths, spec)
        assert rows is not None, problems
        assert problems == []
        found += [(i.tobytes(), int(n)) for i, n in zip(rows.images, rows.labels, strict=True)]
    return found


@pytest.fixture
def spec(settings: Settings) -> DatasetSpec:
    write_spec(settings, PLAIN)
    return load_spec(NAME, settings)


@pytest.mark.parametrize("about", SPECS)
def test_corrections_become_one_batch_that_is_read_as_they_were_kept(
    about: str, settings: Settings
) -> None:
    write_spec(settings, SPECS[about])
    spec = load_spec(NAME, settings)
    kept = keep_some(settings, spec)
    names = spec.layout.class_names
    assert waiting_corrections(spec, settings) == dict.fromkeys(names[:4], 1)

    (passed,) = pass_on(spec, settings)

    assert dict(in_batches(settings, spec)) == kept
    assert [entry.paths for entry in waiting(NAME, settings)] == [(passed.batch,)]
    assert passed.sizes == dict.fromkeys(names[:4], 1)
    assert corrections(NAME, settings) == []
    assert pass_on(spec, settings) == []


def test_a_persons_changes_count(settings: Settings, spec: DatasetSpec) -> None:
    keep_some(settings, spec)
    root = corrections_folder(NAME, settings)
    wrong, moved = next((root / "0").iterdir()), next((root / "1").iterdir())
    wrong.unlink()
    moved.rename(root / "2" / moved.name)

    (passed,) = pass_on(spec, settings)

    assert passed.sizes == {"2": 2, "3": 1}
    assert sorted(path.name for path in passed.batch.iterdir()) == ["2", "3"]


def test_a_file_that_is_no_picture_is_named_and_nothing_is_moved(
    settings: Settings, spec: DatasetSpec
) -> None:
    keep_some(settings, spec)
    stray = corrections_folder(NAME, settings) / "3" / "notes.txt"
    stray.write_text("looks like a 9")

    with pytest.raises(DataError, match=f"{stray}: is no such picture"):
        pass_on(spec, settings)
    stray.unlink()

    assert len(corrections(NAME, settings)) == 4
    assert not incoming_folder(NAME, settings).exists()
    assert len(pass_on(spec, settings)) == 1


def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, spec: DatasetSpec) -> None:
    for number in itertools.count(1):
        root = tmp_path / str(number)
        here = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
        kept = keep_some(here, spec, num=2)

        code = call_killed(pass_on, spec, here, folder=root, kill_at=number)

        arrived = in_batches(here, spec)
        assert waiting_corrections(spec, here).total() == (0 if arrived else 2)
        pass_on(spec, here)
        arrived = in_batches(here, spec)
        assert (len(arrived), dict(arrived)) == (2, kept)
        left = {path.name for path in feedback_folder(NAME, here).iterdir()}
        assert left <= {"corrections.lock"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert number > 20


@pytest.mark.parametrize("is_right", [True, False])
def test_a_batch_of_corrections_is_validated_like_any_other(
    is_right: bool, small_dataset: Settings
) -> None:
    spec = load_spec(NAME, small_dataset)
    images, labels = make_more(40, seed=9)
    for image, label in zip(images, labels.tolist(), strict=True):
        keep(small_dataset, spec, image, label if is_right else 3)
    pass_on(spec, small_dataset)

    (addition,) = add_all_incoming(spec, Workspace(small_dataset))

    assert addition.status == ("accepted" if is_right else "quarantined")
    assert addition.version == (2 if is_right else 1)
    assert is_right or any("label_divergence" in reason for reason in addition.reasons)
