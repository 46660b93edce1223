import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

import digits
from digits import Champion
from digits.cache.keys import STEPS, step_key
from digits.errors import DataError, UsageError
from digits.registry.ledger import Ledger
from digits.settings import ROOT, Settings
from digits.storage.workspace import Workspace
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME

IMAGES, LABELS = make_splits()["test"]


def folders(settings: Settings) -> dict[str, str]:
    return {
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
    }


@pytest.fixture(scope="module")
def champion(crowned: Workspace) -> Champion:
    """The champion as Python programs load it."""
    with patch.dict(os.environ, folders(crowned.settings)):
        return Champion(NAME)


def test_a_champion_says_what_it_is(champion: Champion, crowned: Workspace) -> None:
    version = Ledger(NAME, crowned.settings).champion()
    assert version is not None
    assert (champion.dataset, champion.version, champion.model) == (NAME, 1, "mlp")
    assert champion.digest == version.model.digest
    assert champion.accuracy == version.evaluation.accuracy
    assert champion.class_names == tuple("0123456789")
    assert repr(champion).startswith(f"<Champion {NAME} version 1: mlp, test accuracy ")


def test_a_stack_of_arrays_is_as_many_images(champion: Champion) -> None:
    predictions = champion.predict(IMAGES, as_is=True)

    right = [p.label == label for p, label in zip(predictions, LABELS, strict=True)]
    assert np.mean(right) == champion.accuracy
    first = predictions[0]
    assert (first.file, first.part, first.note) == ("image 1", 1, None)
    assert first.probability == first.probabilities.max()
    assert first.name == str(first.label)
    assert (first.seen == IMAGES[0]).all()


def test_every_kind_of_image_gives_the_same_label(champion: Champion, tmp_path: Path) -> None:
    page = np.full((90, 70), 255, np.uint8)
    page[20:60, 30:36] = 0
    path, picture = tmp_path / "one.png", Image.fromarray(page)
    picture.save(path)
    kinds = [page, picture, path, str(path), path.read_bytes()]

    several = champion.predict(kinds)
    one_by_one = [champion.predict(kind)[0] for kind in kinds]

    assert len({p.probabilities.tobytes() for p in (*several, *one_by_one)}) == 1
    assert len({p.seen.tobytes() for p in several}) == 1
    assert [p.file for p in several] == ["image 1", "image 2", str(path), str(path), "image 5"]
    assert champion.predict([]) == []


def test_each_digit_of_a_picture_has_a_prediction(champion: Champion) -> None:
    page = np.full((60, 120), 255, np.uint8)
    page[10:50, 30:36] = page[10:50, 70:76] = 0

    (whole,) = champion.predict(page)
    parts = champion.predict([page, page], each=True)

    assert whole.note == "2 parts side by side"
    assert [(p.file, p.part) for p in parts] == [
        ("image 1", 1),
        ("image 1", 2),
        ("image 2", 1),
        ("image 2", 2),
    ]


def test_an_image_without_a_label_is_named(champion: Champion, tmp_path: Path) -> None:
    blank = np.zeros((30, 30), np.uint8)
    with pytest.raises(DataError, match=r"^image 2 contains no digit"):
        champion.predict([IMAGES[0], blank])
    with pytest.raises(DataError, match=r"nothing\.png does not exist$"):
        champion.predict(tmp_path / "nothing.png")
    # A dash is standard input only on the command line.
    with pytest.raises(DataError, match=r"^- does not exist$"):
        champion.predict("-")


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((28, 28)), r"image 1 is an array of float64 \(28, 28\) \(expected gray uint8"),
        (np.zeros((2, 28, 28, 1), np.uint8), r"image 1 is an array of uint8 \(2, 28, 28, 1\)"),
        (7, "image 1 is a int"),
    ],
)
def test_what_is_not_an_image_is_refused(champion: Champion, image: object, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        champion.predict(image)


def test_a_version_that_does_not_exist_is_refused(crowned: Workspace) -> None:
    with (
        patch.dict(os.environ, folders(crowned.settings)),
        pytest.raises(UsageError, match=rf"{NAME} has no version 2 \(versions: 1\)"),
    ):
        Champion(NAME, version=2)


def test_importing_digits_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import digits; print(*(set(sys.modules) - before))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    packages = {name.partition(".")[0] for name in printed.stdout.split()}
    assert packages - sys.stdlib_module_names == {"digits"}


def test_an_unknown_name_is_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Champions'"):
        _ = digits.Champions  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", STEPS)
def test_no_step_depends_on_how_a_champion_is_used(name: str) -> None:
    code = step_key(name, {"model": "cnn"}).code

    used = [label for label in code if label.startswith(("digits/inference", "digits/labeling"))]
    assert code
    assert used == []


def test_the_example_in_the_documentation_runs(crowned: Workspace, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for name in "ab":
        page = np.full((60, 60), 255, np.uint8)
        page[10:50, 27:33] = 0
        Image.fromarray(page).save(tmp_path / f"{name}.png")
    ending = "\nimport sys\nassert not {'keras', 'tensorflow', 'prefect'} & set(sys.modules)"

    printed = subprocess.run(
        [sys.executable, "-c", example.replace('"mnist"', repr(NAME)) + ending],
        cwd=tmp_path,
        env=os.environ | folders(crowned.settings) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    assert printed.returncode == 0, printed.stderr
    assert [line.split()[0] for line in printed.stdout.splitlines()] == ["a.png", "b.png"]
