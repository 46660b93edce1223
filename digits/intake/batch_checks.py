"""The checks that a batch must pass by itself, with bounds from the dataset that it is for.

A batch is a sample, so its shares differ from those of the dataset by chance. The bound on a share
therefore depends on the size of the batch: one honest batch in 10,000 exceeds it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
from great_expectations import expectations as gxe
from scipy.stats import betabinom, binom

from digits.intake.baseline import KNOWN_COLUMN, NOT_OF_A_BATCH, Baseline
from digits.thresholds import IMAGE_CHECKS, SPLITS, CheckName, Split, SplitThresholds, Thresholds
from digits.validation import descriptions
from digits.validation.checks import (
    CHANCE,
    Check,
    inverted_colours,
    label_divergence,
    number_marked,
    of_columns,
    of_each_label,
    of_each_value,
    of_ground,
    of_scale,
)
from digits.validation.summary import CENTROID_COLUMN, COLUMNS

MAX_LABEL_DIVERGENCE = 0.1
"""Bound in nats if the spec has none: about the effect of halving or doubling one class of two."""
LEAST_OF_CENTROID_ACCURACY = 0.9
"""If the spec has no bound: fraction of the dataset's centroid accuracy that a batch must reach."""

GROUND_ROOM = 32
"""How much brighter the darkest pixel of a batch may be than that of any training image.

Values of 0..1 in a dataset of -1..1 have no pixel below 128; those of -0.5..0.5 none below 64.
"""


def batch_checks(
    frame: pd.DataFrame,
    baseline: Baseline,
    thresholds: Thresholds,
    num_classes: int,
    class_names: Sequence[str] = (),
) -> list[Check]:
    """Return the checks of a batch; `frame` comes from Baseline.frame.

    Findings name classes by `class_names`, or else by their numbers.
    """
    frames = baseline.frames()
    train = frames["train"]
    columns = [name for name in COLUMNS if name not in NOT_OF_A_BATCH]
    threshold = thresholds.max_label_divergence or MAX_LABEL_DIVERGENCE
    return [
        *of_columns([*columns, CENTROID_COLUMN, KNOWN_COLUMN]),
        of_each_label(num_classes),
        _classes_present(frame, train, class_names),
        label_divergence(frame, train, threshold, num_classes),
        _centroid_accuracy(len(frame), baseline, thresholds),
        # More than half: values of one bit less would reach exactly that.
        of_scale(max(2, int(train["pixel_max"].max()) // 2 + 1)),
        of_ground(min(255, int(train["pixel_min"].max()) + GROUND_ROOM)),
        *of_each_value(_widest(thresholds)),
        inverted_colours(len(frame), train),
        *_of_copies(len(frame), frames, thresholds),
    ]


def _classes_present(frame: pd.DataFrame, train: pd.DataFrame, class_names: Sequence[str]) -> Check:
    """A class may be missing if a batch of this size could lack it by chance."""
    shares = train["label"].value_counts(normalize=True)
    expected = sorted(shares.index[(1 - shares) ** len(frame) < CHANCE].tolist())
    return Check(
        name="classes_present",
        column="label",
        about="classes expected in a batch of this size",
        expected=f"images of class {descriptions.named(expected, class_names)}"
        if expected
        else "any",
        expectation=gxe.ExpectColumnDistinctValuesToContainSet(column="label", value_set=expected),
        describe=descriptions.missing_classes(expected, class_names),
    )


def _centroid_accuracy(num_images: int, baseline: Baseline, thresholds: Thresholds) -> Check:
    given = [thresholds.of(split).min_centroid_accuracy for split in SPLITS]
    least = min(
        (share for share in given if share is not None),
        default=LEAST_OF_CENTROID_ACCURACY * baseline.centroid_accuracy(),
    )
    bound = float(binom.ppf(CHANCE, num_images, least)) / num_images
    return Check(
        name="centroid_accuracy",
        column=CENTROID_COLUMN,
        about="share of images nearest to the mean image of their class",
        expected=descriptions.interval(bound, None),
        expectation=gxe.ExpectColumnMeanToBeBetween(column=CENTROID_COLUMN, min_value=bound),
        describe=descriptions.observed,
        fault_column=None,
    )


def _of_copies(
    num_images: int, frames: Mapping[Split, pd.DataFrame], thresholds: Thresholds
) -> Iterator[Check]:
    about = "images equal to an earlier one of the batch"
    yield from _as_many(
        "duplicates", "is_duplicate", about, num_images, frames=frames, bounds_of=thresholds.of
    )
    about = "images that the dataset already has"
    yield number_marked("known_images", KNOWN_COLUMN, about, high=0)
    about = "images that the other split already has"
    yield number_marked("shared_images", "is_shared", about, high=0)
    about = "images equal to one of the other split after thresholding"
    yield from _as_many(
        "near_duplicates",
        "is_near_duplicate",
        about,
        num_images,
        frames=frames,
        bounds_of=thresholds.of,
    )
    about = "images equal to one that has another label"
    yield number_marked("label_conflicts", "is_conflict", about, high=0)


def _as_many(
    name: CheckName,
    column: str,
    about: str,
    num_images: int,
    *,
    frames: Mapping[Split, pd.DataFrame],
    bounds_of: Callable[[Split], SplitThresholds],
) -> Iterator[Check]:
    """Limit the marked rows to the number expected from the dataset, if it has a bound."""
    bounds = [getattr(bounds_of(split), f"max_{name}") for split in SPLITS]
    given = [bound for bound in bounds if bound is not None]
    if not given:
        return
    marked = sum(int(frame[column].sum()) for frame in frames.values())
    others = sum(map(len, frames.values())) - marked
    likely = int(betabinom(num_images, marked + 1, others + 1).ppf(1 - CHANCE))
    yield number_marked(name, column, about, high=likely if any(given) else 0)


def _widest(thresholds: Thresholds) -> SplitThresholds:
    """The wider of both splits' bounds on single images, since a batch has images of both.

    A bound that only one split has is dropped.
    """
    widest: dict[str, float] = {}
    for name in IMAGE_CHECKS:
        lows, highs = zip(*(thresholds.of(split).of(name) for split in SPLITS), strict=True)
        widest |= {} if None in lows else {f"min_{name}": min(lows)}
        widest |= {} if None in highs else {f"max_{name}": max(highs)}
    return SplitThresholds(**widest)
