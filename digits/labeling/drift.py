"""Drift: whether images and their labels still resemble the champion's training data.

Each measure compares two distributions by the population stability index, the symmetric
Kullback-Leibler divergence over a few bins. An index counts as drift if it is above 0.1, the usual
threshold for a shift that matters, and above what chance alone would produce.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digits.datasets.images import Images, Labels
from digits.labeling.label_reports import Measure
from digits.storage.references import Frozen
from digits.training.predictions import read_predictions
from digits.validation.image_measures import BRIGHT

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

NUM_BINS = 10
CONFIDENCE_EDGES = (0.5, 0.9, 0.99, 0.999)
MATTERS = 0.1
# One false alarm in ten thousand comparisons.
CHANCE = 0.9999


class Reference(Frozen):
    """Reference distributions: for each measure the bin edges, bin counts and mean."""

    edges: dict[str, tuple[float, ...]]
    counts: dict[str, tuple[int, ...]]
    means: dict[str, float]


def reference_of(
    training: Iterable[tuple[Images, Labels]], predictions: Path, num_classes: int
) -> Reference:
    """Return the distributions to compare with.

    They come from chunks of training images uint8 (n, H, W) and labels (n,), and from the
    champion's confidence on its test set, which is read from the Parquet file `predictions`.
    """
    parts = [(*brightness(images), labels) for images, labels in training]
    mean_pixel, ink, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    (confidence,) = read_predictions(predictions, ["probability"])
    steps = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    edges = {
        "mean pixel": tuple(np.quantile(mean_pixel, steps).tolist()),
        "ink": tuple(np.quantile(ink, steps).tolist()),
        "confidence": CONFIDENCE_EDGES,
    }
    values = {"mean pixel": mean_pixel, "ink": ink, "confidence": confidence}
    counts = {name: count(values[name], edges[name]) for name in edges}
    counts["labels"] = np.bincount(labels, minlength=num_classes)
    return Reference(
        edges=edges,
        counts={name: tuple(bins.tolist()) for name, bins in counts.items()},
        means={name: float(values[name].mean()) for name in edges},
    )


class Watch:
    """Accumulates statistics of labeled images, to be compared with the reference at the end."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._counts = {name: np.zeros(len(c), np.int64) for name, c in reference.counts.items()}
        self._sums = dict.fromkeys(reference.means, 0.0)

    def add(self, images: Images, labels: npt.NDArray[Any], confidence: npt.NDArray[Any]) -> None:
        """Add images uint8 (n, H, W) as the model saw them, with labels and probabilities (n,)."""
        mean_pixel, ink = brightness(images)
        values = {"mean pixel": mean_pixel, "ink": ink, "confidence": confidence}
        for name, numbers in values.items():
            self._counts[name] += count(numbers, self._reference.edges[name])
            self._sums[name] += float(numbers.sum())
        self._counts["labels"] += np.bincount(labels, minlength=len(self._counts["labels"]))

    @property
    def label_counts(self) -> tuple[int, ...]:
        """The number of images with each label."""
        return tuple(self._counts["labels"].tolist())

    def measures(self) -> tuple[Measure, ...]:
        """Return all measures, or none if no image was added."""
        number = int(self._counts["labels"].sum())
        if not number:
            return ()
        return tuple(
            compare(
                name,
                np.array(self._reference.counts[name]),
                bins,
                expected=self._reference.means.get(name),
                found=self._sums[name] / number if name in self._sums else None,
            )
            for name, bins in self._counts.items()
        )


def brightness(images: Images) -> tuple[Values, Values]:
    """Return the mean pixel in 0..255 and share of bright pixels of each image uint8 (n, H, W)."""
    pixels = images.reshape(len(images), -1)
    return pixels.mean(axis=1), (pixels > BRIGHT).mean(axis=1)


def count(values: npt.NDArray[Any], edges: Sequence[float]) -> Counts:
    """Count the values in each bin between edges; the first and last bins are open-ended."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def compare(name: str, expected_counts: Counts, found_counts: Counts, **means: Any) -> Measure:
    """Return the population stability index of two histograms over the same bins, and its limit.

    Without drift, the index divided by the sum of the reciprocal sample sizes is distributed as
    chi-squared.
    """
    from scipy.stats import chi2

    # Add half an image to each bin: an empty bin would make the index infinite.
    expected, found = expected_counts + 0.5, found_counts + 0.5
    p, q = expected / expected.sum(), found / found.sum()
    by_chance = chi2.ppf(CHANCE, len(p) - 1) * (1 / expected.sum() + 1 / found.sum())
    return Measure(
        name=name,
        index=float(((p - q) * np.log(p / q)).sum()),
        limit=max(MATTERS, float(by_chance)),
        **means,
    )
