"""Reads a batch and judges it: by itself, against what its dataset holds, and as a part of it."""

import functools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from digits.baseline import Baseline, growth_between, take
from digits.batch_checks import batch_checks
from digits.centroids import load_centroids
from digits.dataset import DatasetSpec
from digits.defects import Defect, DefectError, Defects, Severity
from digits.errors import DataError
from digits.file_layouts import detect_layout, files_in
from digits.findings import Finding, ValidationOutcome
from digits.growth import Growth
from digits.images import Images, Labels
from digits.ingestion import read_added, read_source, split_rows
from digits.kept_batches import canonical_order
from digits.readers import read_files
from digits.sources import content_of
from digits.splits import is_test
from digits.suite import evaluate
from digits.summary import CENTROID_COLUMN, measure
from digits.thresholds import CheckName, Split
from digits.validation import validate_frames
from digits.versions import DatasetVersion, Versions
from digits.workspace import Workspace

Frames = Mapping[Split, pd.DataFrame]


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch in the order of its files: images (n, H, W), labels (n,), and parts.

    A part gives the names of so many rows, in which `roots` say nothing new.
    """

    images: Images
    labels: Labels
    parts: Sequence[Sequence[str]]
    roots: Sequence[Path]

    @functools.cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """The order in which they are kept, which does not depend on the files."""
        return canonical_order(self.images, self.labels)

    @property
    def in_order(self) -> tuple[Images, Labels]:
        """Images and labels as they are kept."""
        return self.images[self.order], self.labels[self.order]

    def name(self, row: int) -> str:
        """What a row is called in the files."""
        ends = list(accumulate(map(len, self.parts)))
        part = bisect_right(ends, row)
        return shortened(self.parts[part][row - ends[part]], self.roots)


def read_rows(paths: Sequence[Path], spec: DatasetSpec) -> tuple[BatchRows | None, list[Finding]]:
    """The rows of a batch, in whichever layout, and what was found while its files were read.

    Raises DataError where the operating system does not let them be read.
    """
    defects = Defects(spec.reading.severity)
    found: list[Finding] = []
    batches = []
    try:
        layout = detect_layout(paths)
        files = [file for path in paths for file in files_in(path, layout)]
        reading = spec.reading.model_copy(update={"file_layout": layout})
        batches = list(read_files(files, spec.layout, reading, defects))
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        found.append(_of_files(error, paths))
    found += [
        _of_rows(defect, severity, paths)
        for severity in ("error", "warning")
        for defect in defects.of(severity)
    ]
    if not batches:
        nothing = DefectError("empty_file", "nothing, expected images and their labels")
        return None, found or [_of_files(nothing, paths)]
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    return BatchRows(images, labels, [batch.names for batch in batches], paths), found


def shortened(name: str, roots: Sequence[Path]) -> str:
    """The name of a row or a file without the folder that its batch lies in."""
    for root in roots:
        name = name.replace(f"{root.parent}/", "")
    return name


def judge(
    rows: BatchRows | None,
    found: Sequence[Finding],
    spec: DatasetSpec,
    version: DatasetVersion,
    workspace: Workspace,
) -> tuple[ValidationOutcome, Growth]:
    """All findings about a batch, and by what it would make the dataset grow.

    `found` is what reading it has found: with an error among that, nothing else is looked at.
    """
    outcome = ValidationOutcome(findings=tuple(found))
    if rows is None or not outcome.success:
        return outcome, Growth()
    thresholds, num_classes = spec.thresholds, spec.num_classes
    baseline = _baseline(spec, version, workspace)
    measured = measure([(rows.images, rows.labels)], baseline.centroids)
    goes_to_test = is_test(rows.images, spec.test_share)
    frame = baseline.frame(measured, goes_to_test)
    checks = batch_checks(frame, baseline, thresholds, num_classes)
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
    source = read_source(spec.layout, content, spec.reading, spec, workspace)
    versions = Versions(spec.name, workspace.settings)
    for batch in chain(source, read_added(version.content.values(), spec.layout, versions)):
        yield from split_rows(batch, spec.test_share)


def _frames(baseline: Baseline, spec: DatasetSpec) -> Frames:
    """The dataset as a run would look at it."""
    frames = baseline.frames()
    if spec.thresholds.centroids is not None:
        return frames
    return {split: frame.drop(columns=CENTROID_COLUMN) for split, frame in frames.items()}


def _made_worse(
    before: Frames, after: Frames, spec: DatasetSpec, growth: Growth, more: Growth
) -> list[Finding]:
    """What a run would refuse of the dataset with the batch, and does not refuse of it without."""
    bounds, num_classes = spec.thresholds, spec.num_classes
    failures = validate_frames(after, bounds, num_classes, growth + more).failures
    if not failures:
        return []
    known = validate_frames(before, bounds, num_classes, growth).failures
    already = {(finding.split, finding.check) for finding in known}
    # Rows of the dataset that nobody has seen would only mislead.
    return [
        failure.model_copy(update={"rows": (), "num_rows": 0})
        for failure in failures
        if (failure.split, failure.check) not in already
    ]


def _named(finding: Finding, rows: BatchRows) -> Finding:
    names = tuple(rows.name(row) for row in finding.rows)
    return finding.model_copy(update={"names": names})


def _of_rows(defect: Defect, severity: Severity, paths: Sequence[Path]) -> Finding:
    places = tuple(shortened(place, paths) for place in defect.places)
    return Finding(
        split="batch",
        check=defect.check,
        column=None,
        expectation=None,
        severity=severity,
        success=False,
        about="rows that cannot be used",
        found=f"{places[0]} {defect.found}",
        expected=defect.expected,
        names=places,
        num_rows=defect.count,
    )


def _of_files(error: DataError, paths: Sequence[Path]) -> Finding:
    check: CheckName = error.check if isinstance(error, DefectError) else "file_type"
    found, _, expected = (
        shortened(str(error), paths).removesuffix(f" ({check})").partition(", expected ")
    )
    return Finding(
        split="batch",
        check=check,
        column=None,
        expectation=None,
        severity="error",
        success=False,
        about="files that cannot be read",
        found=found,
        expected=expected or "files of images and their labels",
    )
