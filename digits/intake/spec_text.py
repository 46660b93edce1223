"""The text of a new dataset's spec: TOML that says beside each value why it is so."""

import json
from collections.abc import Iterator
from typing import Any

from digits.intake.measured_bounds import Bounds
from digits.intake.survey import Survey
from digits.spec import DatasetSpec, FolderSource
from digits.thresholds import CentroidFile


def spec_text(spec: DatasetSpec, seen: Survey, bounds: Bounds, centroids: CentroidFile) -> str:
    """The spec as a file of its own, with what was assumed as comments."""
    lines = [
        f"# {spec.name}: written by `digits dataset init` from what its files hold.",
        "# What was assumed stands beside each value: correct what is wrong.",
        *_facts(spec, seen, bounds),
        *_sources(spec),
        "",
        "# Measured on the images of today, with room for those to come; what breaks a bound stops",
        "# a run. data/README.md says more.",
        "[thresholds]",
        f"max_label_divergence = {bounds.max_label_divergence}",
        "",
        "# The mean image of each class, from the images for training.",
        "[thresholds.centroids]",
        f"name = {_text(centroids.name)}",
        f"sha256 = {_text(centroids.sha256)}",
    ]
    for split, values in bounds.splits.items():
        lines += ["", f"[thresholds.{split}]"]
        lines += [f"{name} = {value}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _facts(spec: DatasetSpec, seen: Survey, bounds: Bounds) -> Iterator[str]:
    height, width = spec.image_shape
    low, high = spec.pixel_range
    yield f"title = {_text(spec.title)}"
    yield f"layout = {_text(spec.file_layout)}"
    if spec.label_column is not None:
        yield f"label_column = {_value(spec.label_column)}  # by name, or by number; -1: last"
    shape = f"image_shape = [{height}, {width}]"
    yield shape + (f"  # {height * width:,} pixels, taken for a square" * seen.is_square_assumed)
    yield f"num_classes = {spec.num_classes}"
    if spec.class_names:
        yield f"class_names = [{', '.join(map(_text, spec.class_names))}]"
    yield f"pixel_range = [{low:g}, {high:g}]  # found: {seen.lowest:g} to {seen.highest:g}"
    if not seen.is_split:
        yield "# No file says that it is for testing: each image's own content decides, for ever."
        yield f"test_share = {spec.test_share!r}"
    right = f"{bounds.centroid_accuracy:.1%} right"
    yield f"# Half way from guessing to the nearest mean image ({right}):"
    yield "# the least that a champion must reach. Raise it to what you need."
    yield f"floor = {bounds.floor}"


def _sources(spec: DatasetSpec) -> Iterator[str]:
    for source in spec.sources:
        if isinstance(source, FolderSource):
            yield from ("", "[[sources]]", 'kind = "folder"', f"path = {_text(str(source.path))}")


def _value(value: Any) -> str:
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """A string as TOML writes it. JSON's form is TOML's, but for the one character DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
