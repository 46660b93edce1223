"""A small dataset as a user would provide it: a spec, and IDX files in the raw folder."""

from pathlib import Path

from digits.datasets.sources.idx import format_idx
from digits.settings import Settings
from digits.spec import Layout
from tests.support.handwriting import NUM_CLASSES, SHAPE, Splits, make_splits

NAME = "handwriting"
SPEC = f"""
title = "Made-up handwriting"
image_shape = [{SHAPE[0]}, {SHAPE[1]}]
num_classes = {NUM_CLASSES}
floor = 0.2

[thresholds]
max_label_divergence = 0.1

[thresholds.train]
max_duplicates = 0
"""


def write_small_dataset(settings: Settings, splits: Splits | None = None) -> None:
    """Write a learnable dataset of 600 and 200 images of 12x12 where `settings` looks for it."""
    write_spec(settings, SPEC)
    for split, (images, labels) in (splits or make_splits()).items():
        write_raw(settings, f"{split}-images", format_idx(images))
        write_raw(settings, f"{split}-labels", format_idx(labels))


def write_spec(settings: Settings, text: str, name: str = NAME) -> Path:
    """Write a dataset's spec."""
    path = settings.datasets_dirs[0] / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_raw(settings: Settings, role: str, content: bytes) -> Path:
    """Write one source file of the dataset."""
    path = settings.raw_dir / NAME / f"{role}.idx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def small_layout() -> Layout:
    """The layout of the small dataset."""
    return Layout(
        name=NAME,
        image_shape=SHAPE,
        num_classes=NUM_CLASSES,
        class_names=tuple(str(label) for label in range(NUM_CLASSES)),
    )
