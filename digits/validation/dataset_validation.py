"""Validates a dataset before any training, and writes the findings to disk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from digits.datasets.growth import Growth
from digits.datasets.images import iter_split
from digits.escaping import page_environment
from digits.spec import Layout
from digits.thresholds import SPLITS, Split, Thresholds
from digits.validation.centroids import load_centroids
from digits.validation.checks import (
    build_checks,
    inverted_colours,
    label_divergence,
)
from digits.validation.findings import PAGE_FILE, Subject, ValidationOutcome
from digits.validation.suite import evaluate
from digits.validation.summary import summarize

RESULT_FILE = "result.json"


def validate_dataset(
    folder: Path,
    layout: Layout,
    thresholds: Thresholds,
    output: Path,
    spec_folders: Sequence[Path] = (),
    *,
    growth: Growth = Growth(),  # noqa: B008  (frozen)
) -> ValidationOutcome:
    """Validate folder/train.parquet and folder/test.parquet; write result.json and page.html.

    `spec_folders` are searched in this order for files that the thresholds name. `growth` is what
    batches have added to the data that the thresholds were written for. A failed outcome is
    written like any other; what it means is up to the caller. Equal data and thresholds give equal
    bytes.

    Raises:
        DamagedError: a file cannot be read, or does not contain images of this layout.
        DataError: a split has no images, or a file does not match the thresholds that name it.
    """
    centroids = None
    if thresholds.centroids is not None:
        centroids = load_centroids(
            thresholds.centroids, spec_folders, layout.image_shape, layout.num_classes
        )
    splits = {split: iter_split(folder / f"{split}.parquet", layout) for split in SPLITS}
    frames = summarize(splits, centroids)
    outcome = validate_frames(
        frames, thresholds, layout.num_classes, growth, class_names=layout.class_names
    )
    write_validation(outcome, output)
    return outcome


def validate_frames(
    frames: Mapping[Split, pd.DataFrame],
    thresholds: Thresholds,
    num_classes: int,
    growth: Growth = Growth(),  # noqa: B008  (frozen)
    *,
    class_names: Sequence[str] = (),
) -> ValidationOutcome:
    """Evaluate the complete suite on frames from digits.validation.summary.summarize."""
    bound, findings = thresholds.max_label_divergence, []
    for split, whole in frames.items():
        frame = _without(growth.of(split).class_sizes, whole)
        bounds = growth.of(split).widen(thresholds.of(split))
        checks = build_checks(bounds, num_classes, thresholds.centroids is not None, class_names)
        if split == "test":
            checks.append(inverted_colours(len(frame), frames["train"]))
            if bound is not None:
                checks.append(label_divergence(frame, frames["train"], bound, num_classes))
        findings += evaluate(split, frame, checks, thresholds)
    num_shared = int(frames["test"]["is_shared"].sum())
    return ValidationOutcome(findings=tuple(findings), num_shared_images=num_shared)


def _without(class_sizes: Sequence[int], frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its class sizes before this many images of each class were added."""
    added = frame["label"].map(dict(enumerate(class_sizes))).fillna(0).astype(int)
    return frame.assign(class_size=frame["class_size"] - added)


def write_validation(outcome: ValidationOutcome, output: Path) -> Path:
    """Write an outcome as result.json and page.html into a folder; return the page's path."""
    for name, content in validation_files(outcome).items():
        (output / name).write_bytes(content)
    return output / PAGE_FILE


def validation_files(
    outcome: ValidationOutcome, subject: Subject = "data", **facts: object
) -> dict[str, bytes]:
    """Render an outcome as result.json, including `facts`, and as page.html."""
    result = {
        **facts,
        "success": outcome.success,
        "num_expectations": outcome.num_expectations,
        "num_failures": len(outcome.failures),
        "num_warnings": len(outcome.warnings),
        "num_shared_images": outcome.num_shared_images,
        "findings": [finding.model_dump(mode="json") for finding in outcome.findings],
    }
    page = render_page(outcome, subject)
    return {RESULT_FILE: (json.dumps(result, indent=2) + "\n").encode(), PAGE_FILE: page.encode()}


def render_page(outcome: ValidationOutcome, subject: Subject = "data") -> str:
    """Render an outcome as one self-contained HTML page: failures first, then all expectations."""
    template = page_environment().get_template("validation.html")
    splits = list(dict.fromkeys(finding.split for finding in outcome.findings))
    return template.render(outcome=outcome, splits=splits, subject=subject)
