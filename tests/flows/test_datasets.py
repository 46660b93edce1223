"""A user's own data, from files to a champion with two commands and no code."""

import gzip
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from digits.layouts import LAYOUTS
from digits.storage.workspace import Workspace
from tests.flows.test_refusals import refused
from tests.support.commands import call_digits, read_json
from tests.support.damage import DAMAGES, write
from tests.support.glyphs import LETTERS, write_letters
from tests.support.handwriting import make_splits
from tests.support.layouts import WRITERS
from tests.support.small_dataset import NAME, SPEC, write_spec

MLP = ("--models", "mlp", "--device", "cpu")


def init(name: str, place: Path, *options: str) -> Mapping[str, Any]:
    """Return what `digits dataset init` assumed."""
    arguments = ("dataset", "init", name, "--from", str(place), *options, "--json")
    facts: Mapping[str, Any] = read_json(call_digits(*arguments))
    return facts


def run(name: str, *options: str) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = read_json(
        call_digits("run", "--dataset", name, *MLP, *options, "--json")
    )
    return facts


def executed(facts: Mapping[str, Any]) -> set[str]:
    return {step for step, how in facts["steps"].items() if how == "executed"}


def shipped() -> bytes:
    """Return scikit-learn's digits file: 1,797 lines of 64 pixels in 0..16 and a label."""
    return (files("sklearn.datasets.data") / "digits.csv.gz").read_bytes()


def write_tree(folder: Path, rows: np.ndarray) -> None:
    pixels = np.rint(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    for row, (image, label) in enumerate(zip(pixels, rows[:, 64], strict=True)):
        path = folder / str(label) / f"{row:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.mark.slow
def test_scikit_learns_digits_become_a_champion_in_any_layout(
    current: Workspace, tmp_path: Path
) -> None:
    folder = current.settings.raw_dir / "uci"
    folder.mkdir(parents=True)
    (folder / "digits.csv.gz").write_bytes(shipped())

    facts = init("uci", folder)
    first = run("uci", "--epochs", "5")

    assert facts["layout"] == "csv"
    assert facts["label_column"] == -1
    assert facts["image_shape"] == [8, 8]
    assert facts["classes"] == list("0123456789")
    assert facts["pixel_range"] == [0, 16]
    assert sum(facts["num_images"].values()) == 1797
    assert first["decision"]["outcome"] == "promoted"
    # Nearest-mean classification reaches 0.9; a model that learns nothing, 0.1.
    assert first["models"][0]["accuracy"] > 0.8

    rows = np.loadtxt(gzip.decompress(shipped()).decode().splitlines(), delimiter=",", dtype=int)
    np.savez(tmp_path / "x.npz", x_train=rows[:, :64].reshape(-1, 8, 8), y_train=rows[:, 64])
    write_tree(tmp_path / "tree", rows)
    for place, layout in ((tmp_path / "x.npz", "npz"), (tmp_path / "tree", "folder")):
        (current.settings.datasets_dirs[0] / "uci.toml").unlink()
        assert init("uci", place)["layout"] == layout
        again = run("uci", "--epochs", "5")
        # Equal images are the same dataset; only the report names their source.
        assert executed(again) == {"ingest", "report"}


@pytest.mark.slow
@pytest.mark.usefixtures("current")
def test_letters_in_many_fonts_become_a_champion(tmp_path: Path) -> None:
    num = write_letters(tmp_path / "letters")

    facts = init("letters", tmp_path / "letters")
    result = run("letters", "--epochs", "8")

    assert facts["layout"] == "folder"
    assert facts["image_shape"] == [24, 20]
    assert facts["classes"] == list(LETTERS)
    assert facts["pixel_range"] == [0, 255]
    assert sum(facts["num_images"].values()) == num
    assert result["decision"]["outcome"] == "promoted"
    # Guessing gives 1/26.
    assert result["models"][0]["accuracy"] > 0.5


@pytest.fixture
def champion(finished: Workspace) -> Workspace:
    """A workspace with a champion, but without its data."""
    shutil.rmtree(finished.settings.raw_dir)
    return finished


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_data_in_another_layout_retrains_nothing(layout: str, champion: Workspace) -> None:
    folder = champion.settings.raw_dir / NAME
    folder.mkdir(parents=True)
    WRITERS[layout](folder, make_splits())
    write_spec(champion.settings, f'layout = "{layout}"\n{SPEC}')

    facts = read_json(
        call_digits("run", "--dataset", NAME, "--epochs", "1", "--device", "cpu", "--json")
    )

    assert executed(facts) == (set() if layout == "idx" else {"ingest", "report"})


# Three kinds only: tests/test_damaged_inputs.py covers them all, without runs.
SHORT = list({damage.check: name for name, damage in DAMAGES.items()}.values())[:3]


@pytest.mark.parametrize(
    "name",
    [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES],
)
def test_corrupted_data_stops_the_run_and_keeps_the_champion(
    name: str, champion: Workspace
) -> None:
    damage = DAMAGES[name]
    folder = champion.settings.raw_dir / NAME
    write(damage, folder)
    write_spec(champion.settings, f'layout = "{damage.layout}"\n{SPEC}')

    assert damage.says in refused(champion)
