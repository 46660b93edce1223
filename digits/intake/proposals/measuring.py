"""Measures the images of a dataset's files: bounds, mean images, copies, and trials of the form."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from digits.datasets.advice import setting
from digits.datasets.defects import Defect, Defects
from digits.datasets.formats.chunks import LabeledChunk
from digits.datasets.formats.readers import read_chunks
from digits.datasets.images import Images, iter_split
from digits.datasets.ingestion import write_splits
from digits.errors import DataError, DigitsError
from digits.intake.proposals.measured_bounds import Bounds, measure_bounds
from digits.settings import Settings
from digits.spec import DatasetSpec, Layout, load_spec
from digits.thresholds import SPLITS, Split
from digits.validation.centroids import compute_centroids, load_centroids
from digits.validation.summary import summarize
from digits.validation.trials import DIGITS, Center, Trials, sampled, try_images

NUM_NAMED = 3


@dataclass(frozen=True)
class Marked:
    """The images that one column of the summary marks: their number, and the first in words."""

    num_images: int
    named: str


@dataclass(frozen=True)
class Measured:
    """What was measured on the images of a dataset's files.

    `is_split` says whether the files define the test split, `means` are the mean images of the
    classes, `shared` the test images that are also training images, `conflicts` those equal to one
    with another label, `blank` those of a single value, and `left_out` the rows that a severity of
    the spec lets be skipped.
    """

    counts: Mapping[Split, int]
    is_split: bool
    bounds: Bounds
    means: Images
    shared: Marked
    conflicts: Marked
    blank: Marked
    left_out: Sequence[Defect]
    trials: Trials


def measure_files(
    files: Sequence[Path], spec: DatasetSpec, center: Center, settings: Settings
) -> Measured:
    """Read the files of a dataset as its spec says, and measure the images.

    `center` centers a picture before it is labeled. Raises DataError if the files are not a
    complete dataset.
    """
    layout, defects, given = spec.layout, Defects(spec.read_options.severity), set[bool]()
    with tempfile.TemporaryDirectory(prefix="digits-") as scratch:
        chunks = _noting_splits(read_chunks(files, spec, defects), given)
        counts = write_splits(chunks, layout, spec.test_share, Path(scratch))
        defects.refuse_errors()
        paths = {split: Path(scratch) / f"{split}.parquet" for split in SPLITS}
        is_split = any(given)
        _check_classes(paths, layout, is_split=is_split)
        means = compute_centroids(iter_split(paths["train"], layout), layout.num_classes)
        frames = summarize({split: iter_split(paths[split], layout) for split in SPLITS}, means)
        images, labels = sampled(iter_split(paths["test"], layout), counts["test"])
    return Measured(
        counts=counts,
        is_split=is_split,
        bounds=measure_bounds(frames, layout.num_classes, is_split=is_split),
        means=means,
        shared=_marked({"test": frames["test"]["is_shared"]}),
        conflicts=_marked({split: frame["is_conflict"] for split, frame in frames.items()}),
        blank=_marked({split: frame["contrast"] == 0 for split, frame in frames.items()}),
        left_out=[*defects.of("warning"), *defects.of("off")],
        trials=try_images(images, labels, means, center, _digit_means(layout, settings)),
    )


def _noting_splits(chunks: Iterable[LabeledChunk], given: set[bool]) -> Iterator[LabeledChunk]:
    for chunk in chunks:
        given.add(chunk.split == "test")
        yield chunk


def _check_classes(paths: Mapping[Split, Path], layout: Layout, *, is_split: bool) -> None:
    for split, path in paths.items():
        num_images, present = 0, set[int]()
        for _, labels in iter_split(path, layout):
            num_images += len(labels)
            present |= set(labels.tolist())
        missing = sorted(set(range(layout.num_classes)) - present)
        if missing:
            names = ", ".join(layout.class_names[label] for label in missing[:5])
            names += ", ..." * (len(missing) > 5)
            larger = "" if is_split else f", or set a larger {setting('test_share', 'SHARE')}"
            raise DataError(
                f"{split} split of {num_images:,} images: {len(missing):,} of the "
                f"{layout.num_classes:,} classes missing ({names}); add images of them{larger}"
            )


def _marked(columns: Mapping[str, "pd.Series[bool]"]) -> Marked:
    rows = [
        f"row {row} of {split}"
        for split, column in columns.items()
        for row in np.flatnonzero(column).tolist()
    ]
    more = ", ..." if len(rows) > NUM_NAMED else ""
    return Marked(len(rows), ", ".join(rows[:NUM_NAMED]) + more)


def _digit_means(layout: Layout, settings: Settings) -> Images | None:
    """MNIST's mean images, if the classes are the ten digits and MNIST's spec is intact."""
    if layout.class_names != DIGITS:
        return None
    with contextlib.suppress(DigitsError):
        mnist = load_spec("mnist", settings)
        if mnist.thresholds.centroids is not None:
            return load_centroids(
                mnist.thresholds.centroids, settings.datasets_dirs, mnist.image_shape, len(DIGITS)
            )
    return None
