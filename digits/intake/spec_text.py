"""The text of a new dataset's spec: TOML with comments that explain its values."""

import json
from collections.abc import Iterator
from typing import Any

from digits.intake.measured_bounds import Bounds
from digits.intake.survey import Survey
from digits.spec import DatasetSpec, FolderSource
from digits.thresholds import CentroidFile


def spec_text(spec: DatasetSpec, seen: Survey, bounds: Bounds, centroids: CentroidFile) -> str:
    """Render the spec as TOML, with the assumptions as comments."""
    lines = [
        f"# {spec.name}: written by `digits dataset init` from the dataset's files.",
        "# The comments state what was assumed; correct whatever is wrong.",
        *_facts(spec, seen, bounds),
        *_sources(spec),
        "",
        "# Measured on the current images, with room for later ones. Data that breaks a bound",
        "# stops a run; see data/README.md.",
        "[thresholds]",
        f"max_label_divergence = {bounds.max_label_divergence}",
        "",
        "# The mean image of each class, computed from the training images.",
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
    yield f"title = {_text(spec.title)}"
    yield f"layout = {_text(spec.file_layout)}"
    if spec.label_column is not None:
        yield f"label_column = {_value(spec.label_column)}  # column name or number; -1 is the last"
    shape = f"image_shape = [{height}, {width}]"
    yield shape + (f"  # {height * width:,} pixels, assumed square" * seen.is_square_assumed)
    yield f"num_classes = {spec.num_classes}"
    if spec.class_names:
        yield f"class_names = [{', '.join(map(_text, spec.class_names))}]"
    # Exactly: six digits would move the values of a given range.
    low, high = (f"{end:g}" if float(f"{end:g}") == end else repr(end) for end in spec.pixel_range)
    found = f"found: {seen.lowest:g} to {seen.highest:g}"
    yield f"pixel_range = [{low}, {high}]  # {seen.pixel_convention}; {found}"
    if not seen.is_split:
        yield "# The files have no test split: a hash of each image's pixels decides, permanently."
        yield f"test_share = {spec.test_share!r}"
    accuracy = f"{bounds.centroid_accuracy:.1%} accuracy"
    yield "# Minimum accuracy of a champion; raise it to what you need. This is halfway between"
    yield f"# guessing and choosing the nearest mean image ({accuracy})."
    yield f"floor = {bounds.floor}"


def _sources(spec: DatasetSpec) -> Iterator[str]:
    for source in spec.sources:
        if isinstance(source, FolderSource):
            yield from ("", "[[sources]]", 'kind = "folder"', f"path = {_text(str(source.path))}")


def _value(value: Any) -> str:
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """Quote a string for TOML, which escapes as JSON does, except for the character DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
