"""`digits dataset init` from a user's view: what it prints, and what it refuses."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from digits.settings import Settings
from digits.spec import load_spec
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
    assert result.stdout.splitlines() == [
        f"Wrote {path} with these assumptions:",
        "  layout   npz",
        "  images   800 of 12 x 12 pixels",
        "  pixels   0 to 255 (8 bits); found 0 to 255",
        "  classes  10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "  split    600 for training, 200 for testing, as in the files",
        "  floor    a champion needs 55% accuracy; the nearest mean image reaches 100.0%",
        "  bounds   measured on these images, with some room",
        "Correct the file if any are wrong, then run: digits run --dataset mine",
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


def test_corrupted_files_leave_no_spec(place: Path, settings: Settings) -> None:
    (place / "digits.npz").write_bytes((place / "digits.npz").read_bytes()[:-100])

    line = said(call_digits("dataset", "init", "mine", "--from", str(place)), 1)

    assert line.startswith(f"{place}/digits.npz is not a valid .npz with x_train, y_train, x_test")
    assert not list(settings.data_dir.rglob("mine*"))
