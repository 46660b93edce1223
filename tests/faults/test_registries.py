"""One of each thing that users add to the project: one file, one entry, and nothing else runs."""

import json
from pathlib import Path

import pytest

from tests.faults.conftest import Tally
from tests.faults.project import Copy
from tests.support.handwriting import make_splits

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

MODEL_FILE = '''
"""A linear model."""

import keras

from digits.training.models.layers import dense, layer_seeds


def build_linear(image_shape, num_classes, dropout, seed):
    seeds = layer_seeds(seed)
    layers = [
        keras.Input(image_shape, name="image"),
        keras.layers.Flatten(name="flatten"),
        dense(num_classes, "softmax", "probabilities", seeds),
    ]
    return keras.Sequential(layers, name="linear")
'''
MODEL_ENTRY = """        "linear": Model(
            builder="digits.training.models.linear:build_linear",
            settings=TrainingSettings(optimizer="adam", learning_rate=0.01, dropout=()),
        ),
"""
LAYOUT_FILE = '''
"""Lines of JSON."""

import json

import numpy as np

from digits.datasets.formats.chunks import RawChunk, RowNames


def read_lines(files, image_shape, read_options, defects):
    for path in files:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        images = np.array([row["image"] for row in rows])
        labels = np.array([row["label"] for row in rows])
        yield RawChunk(images, labels, path.stem, RowNames(str(path), range(len(rows))))
'''
LAYOUT_ENTRY = """        "jsonl": FileLayout(
            files="a .jsonl file",
            names=r".*\\.jsonl",
            reader="digits.datasets.formats.json_lines:read_lines",
        ),
"""
CHECK_FILE = '''
"""How bright an image's frame is."""


def frame_ink(images):
    return images[:, 0].mean(axis=1)
'''
CHECK_ENTRY = """        "frame": ImageCheck(
            about="mean of the top row of each image",
            measure="digits.validation.frame:frame_ink",
            lowest=0,
            highest=255,
        ),
"""
RECIPE_ENTRY = """    "swift": {
        "linear": MODELS["linear"].settings.model_copy(update={"epochs": 2}),
        "mlp": REFERENCE["mlp"].model_copy(update={"epochs": 1}),
    },
"""
REGISTRIES = {
    "digits/models.py": ('        "mlp": Model(\n', MODEL_ENTRY),
    "digits/layouts.py": ('        "idx": FileLayout(\n', LAYOUT_ENTRY),
    "digits/thresholds.py": ('        "pixel_min": ImageCheck(\n', CHECK_ENTRY),
    "digits/recipes.py": ('    "reference": REFERENCE,\n', RECIPE_ENTRY),
}
FILES = {
    "digits/training/models/linear.py": MODEL_FILE,
    "digits/datasets/formats/json_lines.py": LAYOUT_FILE,
    "digits/validation/frame.py": CHECK_FILE,
}


def add_all(copy: Copy) -> None:
    """Add a model, a file layout, a check and a recipe: a file and an entry each."""
    for name, text in FILES.items():
        (copy.root / name).write_text(text, encoding="utf-8")
    for name, (place, entry) in REGISTRIES.items():
        copy.edit(name, place, f"{entry}{place}")


def write_lines(folder: Path) -> None:
    folder.mkdir()
    for split, (images, labels) in make_splits().items():
        rows = ({"image": i.tolist(), "label": int(n)} for i, n in zip(images, labels, strict=True))
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def would_run(planned: dict[str, str]) -> set[str]:
    return {step for step, would in planned.items() if would == "run"}


def test_a_new_model_layout_check_and_recipe_work_and_leave_the_cache_alone(
    copy: Copy, tmp_path: Path, tally: Tally
) -> None:
    with tally.attempt("edits"):
        add_all(copy)
        write_lines(tmp_path / "lines")
        planned = copy.plan()
        # Its page lists one more check; with equal bounds all else stays as it was.
        assert would_run(planned) == {"validate", "promote"}

        made = copy.call("dataset", "init", "lines", "--from", str(tmp_path / "lines"))
        assert made.status == 0, made.log
        run = copy.run("--dataset", "lines", "--models", "linear,mlp", "--recipe", "swift")
        assert "train linear" in run.executed
        # The same images in another layout: this training is cached from the first dataset.
        assert "train mlp" in run.steps - run.executed

        spec = copy.settings.datasets_dirs[0] / "lines.toml"
        bounded = spec.read_text(encoding="utf-8").replace("max_ink", "max_frame = 0\nmax_ink", 1)
        spec.write_text(bounded, encoding="utf-8")
        refused = copy.call("run", "--dataset", "lines", "--models", "linear", "--recipe", "swift")
        assert refused.status == 1
        assert "mean of the top row of each image (frame)" in refused.log


BUILDER = 'builder="digits.training.models.mlp:build_mlp"'
READER = 'reader="digits.datasets.formats.idx_files:read_idx"'
OTHER_BUILDER = (
    "digits/training/models/mlp.py",
    "\n\ndef build_other(*given):\n    return build_mlp(*given)\n",
)
OTHER_READER = (
    "digits/datasets/formats/idx_files.py",
    "\n\ndef read_other(*given):\n    return read_idx(*given)\n",
)
RESOLVED = 'pkgutil.resolve_name("digits.training.models.mlp:build_mlp")'
ENTRIES = {
    "another builder": (
        "digits/models.py",
        BUILDER,
        BUILDER.replace("build_mlp", "build_other"),
        {"train mlp"},
    ),
    "a lambda": (
        "digits/models.py",
        BUILDER,
        f"builder=lambda shape, *more: {RESOLVED}(shape, *more)",
        {"train mlp"},
    ),
    "another reader": (
        "digits/layouts.py",
        READER,
        READER.replace("read_idx", "read_other"),
        {"ingest"},
    ),
    "a reader of another layout": (
        "digits/layouts.py",
        'reader="digits.datasets.formats.csv_files:read_csv"',
        READER,
        set(),
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_is_switched_runs_its_own_step_again(
    name: str, copy: Copy, tally: Tally
) -> None:
    path, old, new, steps = ENTRIES[name]
    with tally.attempt("edits"):
        copy.append(*OTHER_BUILDER)
        copy.append(*OTHER_READER)
        copy.edit(path, old, new)

        planned = copy.plan()

        assert would_run(planned) == steps | {"promote"}
        run = copy.run()
        assert steps <= run.executed
        assert "train cnn" not in run.executed
