"""`digits dataset init` from a user's view: what it prints, and what it refuses."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from digits.datasets.advice import setting, without_spec
from digits.settings import Settings
from digits.spec import ReadOptions, load_spec
from flows.dataset_commands import dataset
from tests.flows.test_refusals import said
from tests.support.commands import call_digits
from tests.support.handwriting import make_splits
from tests.support.layouts import write_csv, write_npz


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Files of a new dataset, and a workspace for this process."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_npz(folder, make_splits())
    with patch.dict(os.environ, {"DIGITS_DATA_DIR": str(settings.data_dir)}):
        yield folder


def test_assumptions_are_printed_in_a_few_lines(place: Path, settings: Settings) -> None:
    result = call_digits("dataset", "init", "mine", "--from", str(place))

    path = settings.datasets_dirs[0] / "mine.toml"
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    # What centering makes of these patterns does not matter here.
    assert lines.pop(6).startswith(
        "  pictures labeled as they are; the nearest mean image is right"
    )
    assert lines == [
        f"Wrote {path} with these assumptions:",
        "  layout   npz",
        "  images   800 of 12 x 12 pixels",
        "  pixels   0 to 255 (8 bits); found 0 to 255",
        "  classes  10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "  split    600 for training, 200 for testing, as in the files",
        "  floor    a champion needs 55% accuracy; the nearest mean image reaches 100.0%",
        "  bounds   measured on these images, with some room",
        "If any are wrong, correct the file and then run: digits dataset init mine --again",
        "Train with: digits run --dataset mine",
    ]
    assert load_spec("mine", settings).floor == 0.55


def test_options_override_what_the_files_suggest(place: Path, settings: Settings) -> None:
    files = write_csv(place, {"train": make_splits()["train"]}, header=False)
    shape = ("--image-shape", "9", "16")

    result = call_digits(
        *("dataset", "init", "mine", "--from", str(files[0]), "--layout", "csv", *shape),
        *("--label-column", "0", "--test-share", "0.25", "--pixel-range", "-1", "260", "--json"),
    )

    facts = json.loads(result.stdout)
    assert (facts["layout"], facts["image_shape"]) == ("csv", [9, 16])
    assert (facts["label_column"], facts["test_share"]) == (0, 0.25)
    assert (facts["pixel_range"], facts["pixel_convention"]) == ([-1, 260], "as given")
    spec = load_spec("mine", settings)
    assert (spec.image_shape, spec.label_column, spec.test_share) == ((9, 16), 0, 0.25)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("mnist", "--from", "."), 2, "dataset mnist already exists; its spec was not overwritten"),
        (("../x", "--from", "."), 2, "'../x': invalid dataset name"),
        (("mine", "--from", "/nowhere"), 2, "/nowhere: not found; --from must name the"),
        (("mine",), 2, "Missing option '--from'"),
        (("mine", "--from", ".", "--layout", "tar"), 2, "'tar' is not one of 'idx', 'npz'"),
        (("mine", "--from", ".", "--test-share", "1"), 2, "1.0 is not in the range 0<x<1"),
        (
            ("mine", "--from", ".", "--image-shape", "4", "9"),
            2,
            "--image-shape 4 9: out of range (expected 8 to",
        ),
        (
            ("mine", "--from", ".", "--pixel-range", "2.5", "-1"),
            2,
            "--pixel-range 2.5 -1: the first must be less than the second",
        ),
    ],
)
def test_an_invalid_call_is_refused(
    arguments: tuple[str, ...], code: int, message: str, place: Path, settings: Settings
) -> None:
    given = [str(place) if argument == "." else argument for argument in arguments]

    assert message in said(call_digits("dataset", "init", *given), code)
    assert not settings.data_dir.exists()


def test_measuring_again_keeps_what_was_changed_by_hand(place: Path, settings: Settings) -> None:
    assert call_digits("dataset", "init", "mine", "--from", str(place)).exit_code == 0
    path = settings.datasets_dirs[0] / "mine.toml"
    text = path.read_text().replace("floor = 0.55", "floor = 0.9")
    path.write_text(text.replace("pixel_range = [0, 255]", "pixel_range = [0, 1020]"))

    result = call_digits("dataset", "init", "mine", "--again")

    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"Measured the bounds in {path} anew:"
    assert "  thresholds.train.min_pixel_max: 191 is now 48" in lines
    assert "Changed by hand, and kept: floor" in lines
    assert load_spec("mine", settings).floor == 0.9
    assert "nothing changed" in call_digits("dataset", "init", "mine", "--again").stdout


def test_measuring_again_takes_no_other_option(place: Path, settings: Settings) -> None:
    call_digits("dataset", "init", "mine", "--from", str(place))

    line = said(call_digits("dataset", "init", "mine", "--again", "--transposed"), 2)

    path = settings.datasets_dirs[0] / "mine.toml"
    assert "--transposed: cannot be combined with --again" in line
    assert line.endswith(f"change its key in {path} instead")


@pytest.mark.usefixtures("settings")
def test_what_a_run_will_refuse_is_noted(place: Path) -> None:
    splits = make_splits()
    images, labels = splits["test"]
    twice = np.concatenate([images, splits["train"][0][:3]])
    others = np.concatenate([labels, splits["train"][1][:3]])
    others[-1] = (others[-1] + 1) % 10
    write_npz(place, splits, x_test=twice, y_test=others)

    result = call_digits("dataset", "init", "mine", "--from", str(place))

    shared, conflicts = (line for line in result.stdout.splitlines() if line.startswith("Note: "))
    assert "3 of the 203 test images are also training images (row 200 of test" in shared
    assert "2 images are equal to an image with another label (row 2 of train" in conflicts
    assert 'set label_conflicts = "warning" under [thresholds.severity] in ' in conflicts


def test_every_option_that_advice_names_exists() -> None:
    options = {option for command in dataset.commands["init"].params for option in command.opts}

    for key in ReadOptions.model_fields:
        if key not in ("file_layout", "severity"):
            with without_spec():
                assert setting(key) in options
    assert "--leave-out" in options


def test_corrupted_files_leave_no_spec(place: Path, settings: Settings) -> None:
    (place / "digits.npz").write_bytes((place / "digits.npz").read_bytes()[:-100])

    line = said(call_digits("dataset", "init", "mine", "--from", str(place)), 1)

    assert line.startswith(f"{place}/digits.npz is not a valid .npz with x_train, y_train, x_test")
    assert not list(settings.data_dir.rglob("mine*"))
