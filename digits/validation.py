"""Validates a dataset before anything is trained on it, and writes down what was found."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from digits.centroids import load_centroids
from digits.checks import build_checks, label_divergence
from digits.dataset import Layout
from digits.findings import ValidationOutcome
from digits.images import iter_split
from digits.pages import page_environment
from digits.suite import evaluate
from digits.summary import summarize
from digits.thresholds import SPLITS, Split, Thresholds

RESULT_FILE = "result.json"
PAGE_FILE = "page.html"


def validate_dataset(
    folder: Path,
    layout: Layout,
    thresholds: Thresholds,
    output: Path,
    spec_folders: Sequence[Path] = (),
) -> ValidationOutcome:
    """Validate folder/train.parquet and folder/test.parquet; write result.json and page.html.

    `spec_folders` is where files that the thresholds name are looked for, in this order. What a
    failed outcome means is the caller's to say: result and page are written just the same. Equal
    data and thresholds give equal bytes.

    Raises:
        DamagedError: a file cannot be read, or does not hold images of this layout.
        DataError: a split holds no images; a file that the thresholds name is not as they say.
    """
    centroids = None
    if thresholds.centroids is not None:
        centroids = load_centroids(
            thresholds.centroids, spec_folders, layout.image_shape, layout.num_classes
        )
    splits = {split: iter_split(folder / f"{split}.parquet", layout) for split in SPLITS}
    outcome = validate_frames(summarize(splits, centroids), thresholds, layout.num_classes)
    write_validation(outcome, output)
    return outcome


def validate_frames(
    frames: Mapping[Split, pd.DataFrame], thresholds: Thresholds, num_classes: int
) -> ValidationOutcome:
    """Evaluate the whole suite on the frames that digits.summary.summarize makes."""
    bound, findings = thresholds.max_label_divergence, []
    for split, frame in frames.items():
        checks = build_checks(thresholds.of(split), num_classes, thresholds.centroids is not None)
        if split == "test" and bound is not None:
            checks.append(label_divergence(frame, frames["train"], bound, num_classes))
        findings += evaluate(split, frame, checks, thresholds)
    return ValidationOutcome(findings=tuple(findings))


def write_validation(outcome: ValidationOutcome, output: Path) -> Path:
    """Write an outcome as result.json and page.html into an existing folder; returns the page."""
    facts = {
        "success": outcome.success,
        "num_expectations": outcome.num_expectations,
        "num_failures": len(outcome.failures),
        "num_warnings": len(outcome.warnings),
        "findings": [finding.model_dump(mode="json") for finding in outcome.findings],
    }
    (output / RESULT_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    page = output / PAGE_FILE
    page.write_text(render_page(outcome), encoding="utf-8")
    return page


def render_page(outcome: ValidationOutcome) -> str:
    """The outcome as one self-contained HTML page: what failed first, then every expectation."""
    template = page_environment().get_template("validation.html")
    return template.render(outcome=outcome, splits=SPLITS)
