"""Builds the expectations for a split's summary from the thresholds of the dataset spec.

Whether an expectation passes is decided by Great Expectations alone. Each expectation comes with
words for it: what is checked, what was expected, and how to describe what was found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from great_expectations import expectations as gxe
from scipy.stats import betabinom, chi2

from digits.thresholds import IMAGE_CHECKS, CheckName, SplitThresholds
from digits.validation import descriptions
from digits.validation.summary import CENTROID_COLUMN, COLUMNS

CHANCE = 1e-4
"""Probability that honest data exceeds a bound that depends on the sample size."""


@dataclass(frozen=True)
class Check:
    """One expectation, with the words for it."""

    name: CheckName
    column: str | None
    about: str
    expected: str
    expectation: gxe.Expectation
    describe: descriptions.Describe
    fault_column: str | None = None
    """Boolean column that marks the failing rows if the expectation checks only their number."""

    def __str__(self) -> str:
        """The name and column, for messages."""
        return f"{self.name} of {self.column}" if self.column else self.name


def build_checks(
    bounds: SplitThresholds,
    num_classes: int,
    has_centroids: bool = False,
    class_names: Sequence[str] = (),
) -> list[Check]:
    """Build the checks of a single split: those that always apply, and one per given bound.

    Labels are classes, numbered 0..num_classes-1. `has_centroids`: whether the summary was made
    with centroids. Findings name classes by `class_names`, or else by their numbers.
    """
    columns = [*COLUMNS, CENTROID_COLUMN] if has_centroids else [*COLUMNS]
    return [
        *of_columns(columns),
        *_of_number(bounds),
        *_of_labels(num_classes, bounds, class_names),
        *_of_pixels(bounds),
        *_of_copies(bounds),
    ]


def label_divergence(
    frame: pd.DataFrame, train: pd.DataFrame, threshold: float, num_classes: int
) -> Check:
    """Return a check that the labels of a split are distributed like those of train.

    A label that does not occur in train makes the divergence infinite.
    """
    shares = train["label"].value_counts(normalize=True).sort_index()
    bound = divergence_bound(threshold, len(frame), num_classes)
    return Check(
        name="label_divergence",
        column="label",
        about="KL divergence of the labels from those of train, in nats",
        expected=descriptions.interval(None, bound),
        expectation=gxe.ExpectColumnKLDivergenceToBeLessThan(
            column="label",
            partition_object={"values": shares.index.tolist(), "weights": shares.tolist()},
            threshold=bound,
        ),
        describe=descriptions.divergence,
    )


def inverted_colours(num_images: int, train: pd.DataFrame) -> Check:
    """Return a check that the number of inverted images is consistent with their share in train.

    Given train, their number in a sample of `num_images` from the same distribution is
    beta-binomial (the posterior predictive under a uniform prior). One honest sample in 10,000 is
    below the bounds by chance, and one above.
    """
    marked = int(train["is_inverted"].sum())
    like = betabinom(num_images, marked + 1, len(train) - marked + 1)
    low, high = int(like.ppf(CHANCE)), int(like.ppf(1 - CHANCE))
    about = "images whose background is light where most train images are dark, or vice versa"
    return number_marked("inverted_colours", "is_inverted", about, high=high, low=low)


def divergence_bound(threshold: float, num_images: int, num_classes: int) -> float:
    """Return the maximum accepted KL divergence, in nats, for the labels of `num_images` images.

    A sample from the expected distribution diverges by chance: 2 n KL is approximately chi-squared
    with k - 1 degrees of freedom (the G-test statistic). The bound is the given threshold or, for
    few images, the value that one honest sample in 10,000 exceeds.
    """
    by_chance = float(chi2.ppf(1 - CHANCE, num_classes - 1)) / (2 * num_images)
    return max(threshold, by_chance)


def of_columns(columns: list[str]) -> Iterator[Check]:
    """Yield checks that the summary has these columns, with a value in every row."""
    yield Check(
        name="columns",
        column=None,
        about="columns of the summary",
        expected=", ".join(columns),
        expectation=gxe.ExpectTableColumnsToMatchOrderedList(column_list=columns),
        describe=lambda frame, _: ", ".join(frame.columns),
    )
    # The other expectations skip nulls, so they would pass a column that contains only nulls.
    for column in columns:
        yield Check(
            name="complete",
            column=column,
            about=f"rows without a value in {column}",
            expected="0",
            expectation=gxe.ExpectColumnValuesToNotBeNull(column=column),
            describe=descriptions.num_missing,
        )


def of_each_label(num_classes: int) -> Check:
    """Return a check that every label is a class, 0..num_classes-1."""
    return Check(
        name="label_unknown",
        column="label",
        about="label of each image",
        expected=descriptions.interval(0, num_classes - 1),
        expectation=gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=list(range(num_classes))
        ),
        describe=descriptions.unknown_labels(num_classes),
    )


def of_scale(least: int) -> Check:
    """Return a check that at least one pixel is as bright as `least`."""
    return Check(
        name="already_scaled",
        column="pixel_max",
        about="brightest pixel of all images (1 if they are already scaled to 0..1)",
        expected=descriptions.interval(least, None),
        expectation=gxe.ExpectColumnMaxToBeBetween(column="pixel_max", min_value=least),
        describe=descriptions.observed,
    )


def of_each_value(bounds: SplitThresholds) -> Iterator[Check]:
    """Yield checks of the pixels of each image."""
    about = "contrast of each image (0 if it is blank)"
    yield from _each("blank_images", about, 1, None, column="contrast")
    for name, check in IMAGE_CHECKS.items():
        yield from _each(name, check.about, *bounds.of(name))


def of_ground(most: int) -> Check:
    """Return a check that at least one pixel is as dark as `most`."""
    return Check(
        name="pixel_range",
        column="pixel_min",
        about="darkest pixel of all images (higher if their values are of another range)",
        expected=descriptions.interval(None, most),
        expectation=gxe.ExpectColumnMinToBeBetween(column="pixel_min", max_value=most),
        describe=descriptions.observed,
    )


def number_marked(
    name: CheckName, column: str, about: str, *, high: int, low: int | None = None
) -> Check:
    """Return a check of the number of rows that a boolean column marks: the failing rows."""
    return Check(
        name=name,
        column=column,
        about=about,
        expected=descriptions.interval(low, high),
        expectation=gxe.ExpectColumnSumToBeBetween(column=column, min_value=low, max_value=high),
        describe=descriptions.observed,
        fault_column=column,
    )


def _of_number(bounds: SplitThresholds) -> Iterator[Check]:
    if bounds.num_images is not None:
        yield Check(
            name="num_images",
            column=None,
            about="number of images",
            expected=str(bounds.num_images),
            expectation=gxe.ExpectTableRowCountToEqual(value=bounds.num_images),
            describe=descriptions.observed,
        )


def _of_labels(num_classes: int, bounds: SplitThresholds, names: Sequence[str]) -> Iterator[Check]:
    yield of_each_label(num_classes)
    classes = list(range(num_classes))
    first, last = (descriptions.named([one], names) for one in (0, num_classes - 1))
    yield Check(
        name="classes_present",
        column="label",
        about=f"classes {first} to {last}",
        expected="all present",
        expectation=gxe.ExpectColumnDistinctValuesToContainSet(column="label", value_set=classes),
        describe=descriptions.missing_classes(classes, names),
    )
    fewest, most = bounds.min_class_size, bounds.max_class_size
    sizes = descriptions.class_sizes(fewest, most, names)
    yield from _each("class_size", "images of each class", fewest, most, describe=sizes)
    about = "share of rows whose label equals the previous row's"
    low, high = bounds.min_label_repeats, bounds.max_label_repeats
    yield from _mean("label_repeats", "is_label_repeat", about, low, high)
    about = "share of images nearest to the mean image of their class"
    low = bounds.min_centroid_accuracy
    yield from _mean("centroid_accuracy", CENTROID_COLUMN, about, low, None)


def _of_pixels(bounds: SplitThresholds) -> Iterator[Check]:
    yield of_scale(2)
    yield from of_each_value(bounds)
    low, high = bounds.min_mean_pixel, bounds.max_mean_pixel
    yield from _mean("mean_pixel", "pixel_mean", "mean of all pixels", low, high)


def _of_copies(bounds: SplitThresholds) -> Iterator[Check]:
    if bounds.max_duplicates is not None:
        about = "images equal to an earlier one of the split"
        yield number_marked("duplicates", "is_duplicate", about, high=bounds.max_duplicates)
    about = "images equal to one of the other split"
    yield number_marked("shared_images", "is_shared", about, high=bounds.max_shared_images or 0)
    if bounds.max_near_duplicates is not None:
        about, most = (
            "images equal to one of the other split after thresholding",
            bounds.max_near_duplicates,
        )
        yield number_marked("near_duplicates", "is_near_duplicate", about, high=most)
    about = "images equal to one that has another label"
    yield number_marked("label_conflicts", "is_conflict", about, high=0)


def _each(
    name: CheckName,
    about: str,
    low: float | None,
    high: float | None,
    *,
    describe: descriptions.Describe | None = None,
    column: str = "",
) -> Iterator[Check]:
    """A check of every value in a column; its default name is that of the check."""
    if low is None and high is None:
        return
    column = column or name
    yield Check(
        name=name,
        column=column,
        about=about,
        expected=descriptions.interval(low, high),
        expectation=gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high),
        describe=describe or descriptions.extent(column),
    )


def _mean(
    name: CheckName, column: str, about: str, low: float | None, high: float | None
) -> Iterator[Check]:
    """A check of a column's mean; for a boolean column, this is the share of marked rows."""
    if low is None and high is None:
        return
    yield Check(
        name=name,
        column=column,
        about=about,
        expected=descriptions.interval(low, high),
        expectation=gxe.ExpectColumnMeanToBeBetween(column=column, min_value=low, max_value=high),
        describe=descriptions.observed,
    )
