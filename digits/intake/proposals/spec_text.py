"""The text of a new dataset's spec: TOML with comments that explain its values."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from digits.intake.proposals.measured_bounds import Value
from digits.intake.proposals.measuring import Measured
from digits.intake.proposals.survey import Survey
from digits.spec import DatasetSpec, FolderSource
from digits.thresholds import CentroidFile

MEASURED = "# measured: "
"""Begins each line that repeats the values as they were measured, to tell later changes by hand."""
PAIR = re.compile(r"([\w.]+)=(\S+)")


def spec_text(
    spec: DatasetSpec,
    seen: Survey,
    measured: Measured,
    centroids: CentroidFile,
    *,
    is_form_measured: bool,
) -> str:
    """Render the spec as TOML, with the assumptions as comments.

    `is_form_measured` says whether `centered` was found out, and not given by the user.
    """
    bounds = measured.bounds
    lines = [
        f"# {spec.name}: written by `digits dataset init` from the dataset's files.",
        "# The comments state what was assumed. Correct whatever is wrong, then let the bounds",
        f"# follow: `digits dataset init {spec.name} --again`.",
        *_facts(spec, seen, measured),
        *_sources(spec),
        "",
        "# Measured on the current images, with room for later ones. Data that breaks a bound",
        "# stops a run; see data/README.md.",
        "[thresholds]",
        f"max_label_divergence = {bounds.max_label_divergence}",
        *_severity(spec),
        "",
        "# The mean image of each class, computed from the training images.",
        "[thresholds.centroids]",
        f"name = {_text(centroids.name)}",
        f"sha256 = {_text(centroids.sha256)}",
    ]
    for split, values in bounds.splits.items():
        lines += ["", f"[thresholds.{split}]"]
        lines += [f"{name} = {value}" for name, value in values.items()]
    form = {"centered": spec.centered} if is_form_measured else {}
    lines += ["", "# What was measured, to tell which values were changed by hand since:"]
    lines += measured_lines({**bounds.by_key, **form})
    return "\n".join(lines) + "\n"


def measured_lines(values: Mapping[str, Value]) -> list[str]:
    """Return comment lines that repeat measured values, for `read_measured`."""
    pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())
    return textwrap.wrap(
        pairs,
        100,
        initial_indent=MEASURED,
        subsequent_indent=MEASURED,
        break_on_hyphens=False,
    )


def read_measured(text: str) -> dict[str, Value]:
    """Return the values that the comments of a spec repeat, by key."""
    lines = [line for line in text.splitlines() if line.startswith(MEASURED)]
    pairs = " ".join(line.removeprefix(MEASURED) for line in lines)
    return {key: json.loads(value) for key, value in PAIR.findall(pairs)}


def _facts(spec: DatasetSpec, seen: Survey, measured: Measured) -> Iterator[str]:
    height, width = spec.image_shape
    yield f"title = {_text(spec.title)}"
    yield f"layout = {_text(spec.file_layout)}"
    if spec.image_column is not None:
        yield f"image_column = {_value(spec.image_column)}"
    if spec.label_column is not None:
        yield f"label_column = {_value(spec.label_column)}  # column name or number; -1 is the last"
    shape = f"image_shape = [{height}, {width}]"
    yield shape + (f"  # {height * width:,} pixels, assumed square" * seen.is_square_assumed)
    if spec.transposed:
        yield "transposed = true  # rows and columns are swapped in the files"
    yield f"num_classes = {spec.num_classes}"
    if spec.class_names:
        yield f"class_names = [{', '.join(map(_text, spec.class_names))}]"
    if spec.first_label:
        yield f"first_label = {spec.first_label}  # the label of the first class"
    # Exactly: six digits would move the values of a given range.
    low, high = (f"{end:g}" if float(f"{end:g}") == end else repr(end) for end in spec.pixel_range)
    found = f"found: {seen.lowest:g} to {seen.highest:g}"
    yield f"pixel_range = [{low}, {high}]  # {seen.pixel_convention}; {found}"
    if not measured.is_split:
        yield "# The files have no test split: a hash of each image's pixels decides, permanently."
        yield f"test_share = {spec.test_share!r}"
    if spec.validation != "train":
        yield f"validation = {_text(spec.validation)}  # the files' third split is not used"
    yield "# Whether pictures are centered and scaled like MNIST's before they are labeled."
    yield f"centered = {json.dumps(spec.centered)}"
    yield "# Minimum accuracy of a champion; raise it to what you need. This is halfway between"
    yield "# guessing and choosing the nearest mean image."
    yield f"floor = {measured.bounds.floor}"


def _severity(spec: DatasetSpec) -> Iterator[str]:
    if spec.thresholds.severity:
        yield from ("", "# What a failed check means; with a warning, the rows are left out.")
        yield "[thresholds.severity]"
        for check, severity in spec.thresholds.severity.items():
            yield f"{check} = {_text(severity)}"


def _sources(spec: DatasetSpec) -> Iterator[str]:
    for source in spec.sources:
        if isinstance(source, FolderSource):
            yield from ("", "[[sources]]", 'kind = "folder"', f"path = {_text(str(source.path))}")


def _value(value: Any) -> str:
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """Quote a string for TOML, which escapes as JSON does, except for the character DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
