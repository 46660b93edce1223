"""Whether pictures and their labels are still like the data that the champion learnt from.

Each measure compares two distributions by the population stability index, the symmetric
Kullback-Leibler divergence over a few bins. It counts as drift above 0.1, the usual mark of a shift
that matters, and only where chance alone would not reach it.
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

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

NUM_BINS = 10
CONFIDENCE_EDGES = (0.5, 0.9, 0.99, 0.999)
BRIGHT = 127
MATTERS = 0.1
# One false alarm in ten thousand looks.
CHANCE = 0.9999


class Reference(Frozen):
    """What is known of the training data: per measure the bins' edges, counts and the mean."""

    edges: dict[str, tuple[float, ...]]
    counts: dict[str, tuple[int, ...]]
    means: dict[str, float]


def reference_of(
    training: Iterable[tuple[Images, Labels]], predictions: Path, num_classes: int
) -> Reference:
    """The distributions to compare with.

    Those of the training images uint8 (n, H, W) and labels (n,), in batches, and of the champion's
    confidence on its test set, as the Parquet file `predictions` keeps it.
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
    """Counts what is labelled, as it comes, to compare it with the reference at the end."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._counts = {name: np.zeros(len(c), np.int64) for name, c in reference.counts.items()}
        self._sums = dict.fromkeys(reference.means, 0.0)

    def add(self, images: Images, labels: npt.NDArray[Any], confidence: npt.NDArray[Any]) -> None:
        """Images uint8 (n, H, W) as the model saw them, its labels and their probabilities (n,)."""
        mean_pixel, ink = brightness(images)
        values = {"mean pixel": mean_pixel, "ink": ink, "confidence": confidence}
        for name, numbers in values.items():
            self._counts[name] += count(numbers, self._reference.edges[name])
            self._sums[name] += float(numbers.sum())
        self._counts["labels"] += np.bincount(labels, minlength=len(self._counts["labels"]))

    @property
    def label_counts(self) -> tuple[int, ...]:
        """How many images have each label."""
        return tuple(self._counts["labels"].tolist())

    def measures(self) -> tuple[Measure, ...]:
        """Each measure; none of nothing."""
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
    """Of each image uint8 (n, H, W): its mean pixel in 0..255, and the share of bright pixels."""
    pixels = images.reshape(len(images), -1)
    return pixels.mean(axis=1), (pixels > BRIGHT).mean(axis=1)


def count(values: npt.NDArray[Any], edges: Sequence[float]) -> Counts:
    """How many values lie between each two edges, and below and above them all."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def compare(name: str, expected_counts: Counts, found_counts: Counts, **means: Any) -> Measure:
    """The population stability index of two histograms over the same bins, and its limit.

    Times the samples' harmonic size, it is distributed as chi-squared where nothing has drifted.
    """
    from scipy.stats import chi2

    # Half an image more in each bin: an empty one would make the index infinite.
    expected, found = expected_counts + 0.5, found_counts + 0.5
    p, q = expected / expected.sum(), found / found.sum()
    by_chance = chi2.ppf(CHANCE, len(p) - 1) * (1 / expected.sum() + 1 / found.sum())
    return Measure(
        name=name,
        index=float(((p - q) * np.log(p / q)).sum()),
        limit=max(MATTERS, float(by_chance)),
        **means,
    )
