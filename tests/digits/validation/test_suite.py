import dataclasses

import numpy as np
import pandas as pd
import pytest
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

from digits.errors import DigitsError
from digits.thresholds import CheckName, SplitThresholds, Thresholds
from digits.validation import suite
from digits.validation.checks import (
    Check,
    build_checks,
    divergence_bound,
    label_divergence,
)
from digits.validation.findings import Finding
from digits.validation.suite import evaluate
from digits.validation.summary import summarize
from tests.support.handwriting import NUM_CLASSES, make_splits, make_thresholds


@pytest.fixture(scope="module")
def train() -> pd.DataFrame:
    return summarize({split: [pair] for split, pair in make_splits().items()})["train"]


def checks_for(bounds: SplitThresholds | None = None) -> list[Check]:
    return build_checks(bounds or SplitThresholds(), NUM_CLASSES)


def failed(findings: list[Finding]) -> list[tuple[CheckName, str | None]]:
    return [(finding.check, finding.column) for finding in findings if not finding.success]


def test_there_is_one_finding_per_check_in_order(train: pd.DataFrame) -> None:
    checks = checks_for(make_thresholds().train)

    findings = evaluate("train", train, checks, Thresholds())

    assert [(f.check, f.column) for f in findings] == [(c.name, c.column) for c in checks]
    assert all(finding.success for finding in findings)


def test_each_bound_adds_one_check() -> None:
    always = checks_for()
    one_more = checks_for(SplitThresholds(max_ink=0.5))

    assert [check.name for check in one_more if check.name not in {c.name for c in always}] == [
        "ink"
    ]
    assert len(one_more) == len(always) + 1


def test_a_dropped_expectation_is_noticed(train: pd.DataFrame) -> None:
    # Great Expectations drops unknown types and reports success for the rest.
    checks = checks_for()
    unknown = ExpectationConfiguration(type="expect_images_to_be_pretty", kwargs={})
    checks[-1] = dataclasses.replace(checks[-1], expectation=unknown)

    with pytest.raises(
        DigitsError, match=r"19 of the 20 .* not evaluated: label_conflicts of is_conflict"
    ):
        evaluate("train", train, checks, Thresholds())


def test_an_expectation_that_raises_counts_as_not_evaluated(train: pd.DataFrame) -> None:
    with pytest.raises(DigitsError, match="not evaluated: complete of ink, ink of ink"):
        evaluate(
            "train",
            train.drop(columns="ink"),
            checks_for(SplitThresholds(max_ink=0.5)),
            Thresholds(),
        )


def test_a_missing_result_is_noticed(train: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    run_suite = suite._run_suite
    monkeypatch.setattr(suite, "_run_suite", lambda *arguments: run_suite(*arguments)[1:])

    with pytest.raises(DigitsError, match="19 of the 20"):
        evaluate("train", train, checks_for(), Thresholds())


def test_nulls_are_refused_though_the_other_expectations_skip_them(train: pd.DataFrame) -> None:
    broken = train.astype({"label": float, "ink": float})
    broken.loc[[2, 30], "label"] = np.nan
    broken["ink"] = np.nan

    findings = evaluate(
        "train", broken, checks_for(SplitThresholds(min_ink=0.05, max_ink=0.5)), Thresholds()
    )

    assert failed(findings) == [("complete", "label"), ("complete", "ink")]
    label = next(finding for finding in findings if not finding.success)
    assert (label.found, label.rows, label.num_rows) == ("2", (2, 30), 2)


def test_an_extra_column_is_refused(train: pd.DataFrame) -> None:
    assert failed(evaluate("train", train.assign(more=1), checks_for(), Thresholds())) == [
        ("columns", None)
    ]


def test_only_the_first_rows_are_named_and_all_are_counted(train: pd.DataFrame) -> None:
    [finding] = [
        finding
        for finding in evaluate(
            "train", train, checks_for(SplitThresholds(max_ink=0.01)), Thresholds()
        )
        if not finding.success
    ]

    assert finding.rows == tuple(range(10))
    assert finding.num_rows == 600
    assert str(finding).endswith("; 600 rows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...")


def test_severity_is_kept_per_check(train: pd.DataFrame) -> None:
    bounds = SplitThresholds(num_images=1, max_ink=0.01)
    thresholds = Thresholds(severity={"ink": "warning"})

    findings = evaluate("train", train, checks_for(bounds), thresholds)

    assert {f.check: f.severity for f in findings if not f.success} == {
        "num_images": "error",
        "ink": "warning",
    }


def test_a_check_that_is_off_is_not_evaluated(train: pd.DataFrame) -> None:
    thresholds = Thresholds(severity={"ink": "off"})

    findings = evaluate("train", train, checks_for(SplitThresholds(max_ink=0.01)), thresholds)

    assert [(f.check, f.column) for f in findings] == [(c.name, c.column) for c in checks_for()]


def test_the_divergence_bound_widens_for_few_images() -> None:
    # The 0.9999 quantile of chi-squared with 9 degrees of freedom is 33.72.
    assert divergence_bound(0.003, 100, 10) == pytest.approx(33.72 / 200, rel=1e-3)
    assert divergence_bound(0.003, 10_000, 10) == 0.003
    assert divergence_bound(0.003, 5_000, 10) == pytest.approx(33.72 / 10_000, rel=1e-3)


def test_honest_small_samples_stay_within_the_bound() -> None:
    rng = np.random.default_rng(0)
    shares = rng.multinomial(50, np.full(10, 0.1), size=2000) / 50
    terms = np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-9) / 0.1), 0.0)

    assert (terms.sum(axis=1) > divergence_bound(0.003, 50, 10)).mean() < 0.002


def test_a_label_that_train_lacks_makes_the_divergence_infinite(train: pd.DataFrame) -> None:
    check = label_divergence(train, train[train["label"] != 4], 0.003, NUM_CLASSES)

    [finding] = evaluate("test", train, [check], Thresholds())

    assert not finding.success
    assert finding.found == "infinity: a label does not occur in train"
