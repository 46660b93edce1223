"""Validates a batch by itself, against its dataset, and as part of the grown dataset."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import pandas as pd

from digits.datasets.growth import Growth
from digits.datasets.images import Images, Labels
from digits.datasets.ingestion import read_added, read_source, split_rows
from digits.datasets.sources.content import content_of
from digits.datasets.splits import is_test
from digits.datasets.versions import DatasetVersion, DatasetVersions
from digits.intake.baseline import Baseline, growth_between, take
from digits.intake.batch_checks import batch_checks
from digits.intake.batch_files import BatchRows
from digits.spec import DatasetSpec
from digits.storage.workspace import Workspace
from digits.thresholds import Split
from digits.validation.centroids import load_centroids
from digits.validation.dataset_validation import validate_frames
from digits.validation.findings import Finding, ValidationOutcome
from digits.validation.suite import evaluate
from digits.validation.summary import CENTROID_COLUMN, measure

Frames = Mapping[Split, pd.DataFrame]


def validate_batch(
    rows: BatchRows | None,
    found: Sequence[Finding],
    spec: DatasetSpec,
    version: DatasetVersion,
    workspace: Workspace,
) -> tuple[ValidationOutcome, Growth]:
    """Return all findings about a batch, and the growth of the dataset if it is added.

    `found` contains the findings from reading the batch; after an error, nothing else is checked.
    """
    outcome = ValidationOutcome(findings=tuple(found))
    if rows is None or not outcome.success:
        return outcome, Growth()
    thresholds, num_classes = spec.thresholds, spec.num_classes
    baseline = _baseline(spec, version, workspace)
    measured = measure([(rows.images, rows.labels)], baseline.centroids)
    goes_to_test = is_test(rows.images, spec.test_share)
    frame = baseline.frame(measured, goes_to_test)
    checks = batch_checks(frame, baseline, thresholds, num_classes, spec.layout.class_names)
    by_itself = evaluate("batch", frame, checks, thresholds)
    findings = [*found, *(_named(finding, rows) for finding in by_itself)]
    growth = Growth()
    if ValidationOutcome(findings=tuple(findings)).success:
        grown = baseline.grown(take(measured, rows.order), goes_to_test[rows.order])
        before, after = _frames(baseline, spec), _frames(grown, spec)
        growth = growth_between(before, after, num_classes)
        findings += _made_worse(before, after, spec, version.growth, growth)
    return ValidationOutcome(findings=tuple(findings)), growth


def _baseline(spec: DatasetSpec, version: DatasetVersion, workspace: Workspace) -> Baseline:
    centroids, settings = None, workspace.settings
    if spec.thresholds.centroids is not None:
        centroids = load_centroids(
            spec.thresholds.centroids, settings.datasets_dirs, spec.image_shape, spec.num_classes
        )
    return Baseline.of(lambda: _rows(spec, version, workspace), spec.num_classes, centroids)


def _rows(
    spec: DatasetSpec, version: DatasetVersion, workspace: Workspace
) -> Iterator[tuple[Split, Images, Labels]]:
    content = content_of(spec, workspace.settings)
    source = read_source(spec.layout, content, spec.read_options, spec, workspace)
    versions = DatasetVersions(spec.name, workspace.settings)
    for chunk in chain(source, read_added(version.content.values(), spec.layout, versions)):
        yield from split_rows(chunk, spec.test_share)


def _frames(baseline: Baseline, spec: DatasetSpec) -> Frames:
    """The dataset's frames as a run would validate them."""
    frames = baseline.frames()
    if spec.thresholds.centroids is not None:
        return frames
    return {split: frame.drop(columns=CENTROID_COLUMN) for split, frame in frames.items()}


def _made_worse(
    before: Frames, after: Frames, spec: DatasetSpec, growth: Growth, more: Growth
) -> list[Finding]:
    """Failures that a run would find in the dataset with the batch, but not without it."""
    bounds, num_classes, names = spec.thresholds, spec.num_classes, spec.layout.class_names
    failures = validate_frames(
        after, bounds, num_classes, growth + more, class_names=names
    ).failures
    if not failures:
        return []
    known = validate_frames(before, bounds, num_classes, growth, class_names=names).failures
    already = {(finding.split, finding.check) for finding in known}
    # Row numbers would only mislead: nobody has seen the grown dataset.
    return [
        failure.model_copy(update={"rows": (), "num_rows": 0})
        for failure in failures
        if (failure.split, failure.check) not in already
    ]


def _named(finding: Finding, rows: BatchRows) -> Finding:
    names = tuple(rows.name(row) for row in finding.rows)
    return finding.model_copy(update={"names": names})
