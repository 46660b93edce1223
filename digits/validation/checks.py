"""The expectations: what a split's summary has to pass, made of the thresholds of its spec.

The verdict is always Great Expectations'. Beside each expectation stand the words for it: what it
is about, what was expected, and how to say what was found.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from great_expectations import expectations as gxe
from scipy.stats import betabinom, chi2

from digits.thresholds import IMAGE_CHECKS, CheckName, SplitThresholds
from digits.validation import descriptions
from digits.validation.summary import CENTROID_COLUMN, COLUMNS

CHANCE = 1e-4
"""How often an honest sample may exceed a bound that depends on its size."""


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
    """Marks the rows at fault, where the expectation itself judges only their number."""

    def __str__(self) -> str:
        """Name and column, for messages."""
        return f"{self.name} of {self.column}" if self.column else self.name


def build_checks(
    bounds: SplitThresholds, num_classes: int, has_centroids: bool = False
) -> list[Check]:
    """The checks of one split by itself: those that always hold, and one per bound that is given.

    Labels are classes, numbered 0..num_classes-1. `has_centroids` says whether the summary was
    made with centroids.
    """
    columns = [*COLUMNS, CENTROID_COLUMN] if has_centroids else [*COLUMNS]
    return [
        *of_columns(columns),
        *_of_number(bounds),
        *_of_labels(num_classes, bounds),
        *_of_pixels(bounds),
        *_of_copies(bounds),
    ]


def label_divergence(
    frame: pd.DataFrame, train: pd.DataFrame, threshold: float, num_classes: int
) -> Check:
    """The check that the labels of a split are mixed as those of train.

    A label that train lacks makes the divergence infinite.
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
    """The check that as many images have the rarer kind of ground as train lets expect.

    Given what train shows, the number in a like sample of `num_images` follows the beta-binomial
    distribution (the posterior predictive under a uniform prior): one honest sample of 10,000 has
    fewer, and one has more.
    """
    marked = int(train["is_inverted"].sum())
    like = betabinom(num_images, marked + 1, len(train) - marked + 1)
    low, high = int(like.ppf(CHANCE)), int(like.ppf(1 - CHANCE))
    about = "images whose ground is not light or dark as that of most train images"
    return number_marked("inverted_colours", "is_inverted", about, high=high, low=low)


def divergence_bound(threshold: float, num_images: int, num_classes: int) -> float:
    """Greatest KL divergence, in nats, to accept of the labels of `num_images` images.

    A sample that follows the expected shares diverges by chance: 2 n KL is about chi-squared with
    k - 1 degrees of freedom (the statistic of the G-test). The bound is the given threshold or, for
    few images, what one of 10,000 honest samples exceeds.
    """
    by_chance = float(chi2.ppf(1 - CHANCE, num_classes - 1)) / (2 * num_images)
    return max(threshold, by_chance)


def of_columns(columns: list[str]) -> Iterator[Check]:
    """The checks that the summary has these columns, and each of them a value in every row."""
    yield Check(
        name="columns",
        column=None,
        about="columns of the summary",
        expected=", ".join(columns),
        expectation=gxe.ExpectTableColumnsToMatchOrderedList(column_list=columns),
        describe=lambda frame, _: ", ".join(frame.columns),
    )
    # The other expectations skip nulls: they would pass a column that holds nothing else.
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
    """The check that every label is a class, 0..num_classes-1."""
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
    """The check that some pixel is as bright as `least`."""
    return Check(
        name="already_scaled",
        column="pixel_max",
        about="brightest pixel of all images, 1 where they are scaled to 0..1 already",
        expected=descriptions.interval(least, None),
        expectation=gxe.ExpectColumnMaxToBeBetween(column="pixel_max", min_value=least),
        describe=descriptions.observed,
    )


def of_each_value(bounds: SplitThresholds) -> Iterator[Check]:
    """The checks of each image's pixels by themselves."""
    about = "contrast of each image, 0 where it is blank"
    yield from _each("blank_images", about, 1, None, column="contrast")
    for name, check in IMAGE_CHECKS.items():
        yield from _each(name, check.about, *bounds.of(name))


def number_marked(
    name: CheckName, column: str, about: str, *, high: int, low: int | None = None
) -> Check:
    """A check of how many rows a boolean column marks; they are the rows at fault."""
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


def _of_labels(num_classes: int, bounds: SplitThresholds) -> Iterator[Check]:
    yield of_each_label(num_classes)
    classes = list(range(num_classes))
    yield Check(
        name="classes_present",
        column="label",
        about=f"classes 0 to {num_classes - 1}",
        expected="all present",
        expectation=gxe.ExpectColumnDistinctValuesToContainSet(column="label", value_set=classes),
        describe=descriptions.missing_classes(classes),
    )
    fewest, most = bounds.min_class_size, bounds.max_class_size
    sizes = descriptions.class_sizes(fewest, most)
    yield from _each("class_size", "images of each class", fewest, most, describe=sizes)
    about = "share of rows with the label of the row before"
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
            "images equal to one of the other split once thresholded",
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
    """A check of every value in a column, which bears the check's name unless another is given."""
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
    """A check of a column's mean: of a boolean column, the share of the rows that it marks."""
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
