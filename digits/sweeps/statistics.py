"""What several seeds say about a variant: mean, spread and confidence interval."""

import math
import statistics
from collections.abc import Sequence

from digits.storage.references import EvaluationRef, Frozen, ModelRef
from digits.sweeps.variants import Combination, Variant

CONFIDENCE = 0.95

Scored = tuple[ModelRef, EvaluationRef]


class Summary(Frozen):
    """A variant's accuracies over its seeds, in the order of the seeds.

    `interval` is the 95% interval of the mean over seeds, by Student's t; None for a single seed.
    It says how much the mean depends on the seeds, not on the choice of the test images. `seconds`
    is the mean wall time of a training.
    """

    variant: Variant
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None
    loss: float
    seconds: float

    @property
    def lowest(self) -> float:
        """The accuracy of the worst seed."""
        return min(self.accuracies)

    @property
    def highest(self) -> float:
        """The accuracy of the best seed."""
        return max(self.accuracies)


def summarize(combinations: Sequence[Combination], scored: Sequence[Scored]) -> list[Summary]:
    """Summarize each variant, in the order of first appearance.

    `scored` are the models and scores of `combinations`.
    """
    variants: dict[str, Variant] = {}
    grouped: dict[str, list[tuple[int, Scored]]] = {}
    for combination, pair in zip(combinations, scored, strict=True):
        name = combination.variant.name
        variants[name] = combination.variant
        grouped.setdefault(name, []).append((combination.seed, pair))
    return [_summary(variants[name], pairs) for name, pairs in grouped.items()]


def best(summaries: Sequence[Summary]) -> Summary:
    """Return the variant with the highest mean accuracy; a tie goes to the lower mean loss."""
    return min(summaries, key=lambda summary: (-summary.mean, summary.loss))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% interval of the mean of shares, by Student's t, within 0..1; None for one.

    Student (1908), "The probable error of a mean".
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def _summary(variant: Variant, pairs: Sequence[tuple[int, Scored]]) -> Summary:
    accuracies = tuple(score.accuracy for _, (_, score) in pairs)
    return Summary(
        variant=variant,
        seeds=tuple(seed for seed, _ in pairs),
        accuracies=accuracies,
        mean=statistics.fmean(accuracies),
        interval=mean_interval(accuracies),
        loss=statistics.fmean(score.loss for _, (_, score) in pairs),
        seconds=statistics.fmean(model.seconds for _, (model, _) in pairs),
    )
