import numpy as np
import pytest
from scipy import stats

from digits.sweeps.statistics import best, mean_interval, summarize
from tests.support.sweeps import combination, scored


def test_the_interval_is_student_s_of_the_mean() -> None:
    values = [0.951, 0.962, 0.947, 0.958, 0.955]
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)

    assert mean_interval(values) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_the_interval_covers_the_true_mean_in_95_of_100_samples() -> None:
    samples = np.random.default_rng(5).normal(0.9, 0.005, size=(4_000, 5))
    intervals = [mean_interval(sample.tolist()) for sample in samples]

    covered = sum(low <= 0.9 <= high for low, high in filter(None, intervals)) / len(samples)

    # Three standard errors of a share of 4,000.
    assert covered == pytest.approx(0.95, abs=0.0103)


def test_a_single_seed_has_no_interval_and_none_leaves_0_to_1() -> None:
    assert mean_interval([0.9]) is None
    assert mean_interval([0.99, 1.0]) == (pytest.approx(0.9315, abs=1e-4), 1.0)


def test_seeds_are_summarized_by_variant() -> None:
    asked = [combination(0.1, 0), combination(0.2, 0), combination(0.1, 1), combination(0.2, 1)]
    pairs = [scored("a", 90), scored("b", 80), scored("c", 94, loss=0.1), scored("d", 99)]

    first, second = summarize(asked, pairs)

    assert (first.variant, first.seeds) == (asked[0].variant, (0, 1))
    assert first.accuracies == (0.90, 0.94)
    assert (first.mean, first.lowest, first.highest) == (pytest.approx(0.92), 0.90, 0.94)
    assert first.loss == pytest.approx(0.3)
    assert second.mean == pytest.approx(0.895)


def test_the_best_variant_has_the_highest_mean_not_the_luckiest_seed() -> None:
    asked = [combination(rate, seed) for rate in (0.1, 0.2, 0.3) for seed in (0, 1)]
    even, lucky = (scored("a", 92), scored("b", 92)), (scored("c", 99), scored("d", 80))
    same_with_less_loss = (scored("e", 91, loss=0.1), scored("f", 93, loss=0.1))

    summaries = summarize(asked, [*even, *lucky, *same_with_less_loss])

    assert best(summaries[:2]).variant == asked[0].variant
    assert best(summaries).variant == asked[4].variant
