"""The expectations: what a split's summary has to pass, made of the thresholds of its spec.

The verdict is always Great Expectations'. Beside each expectation stand the words for it: what it
is about, what was expected, and how to say what was found.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from great_expectations import expectations as gxe
from scipy.stats import chi2

from digits import wording
from digits.summary import CENTROID_COLUMN, COLUMNS
from digits.thresholds import CheckName, SplitThresholds


@dataclass(frozen=True)
class Check:
    """One expectation, with the words for it."""

    name: CheckName
    column: str | None
    about: str
    expected: str
    expectation: gxe.Expectation
    describe: wording.Describe
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
        *_of_table(columns, bounds),
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
        expected=wording.interval(None, bound),
        expectation=gxe.ExpectColumnKLDivergenceToBeLessThan(
            column="label",
            partition_object={"values": shares.index.tolist(), "weights": shares.tolist()},
            threshold=bound,
        ),
        describe=wording.divergence,
    )


def divergence_bound(threshold: float, num_images: int, num_classes: int) -> float:
    """Greatest KL divergence, in nats, to accept of the labels of `num_images` images.

    A sample that follows the expected shares diverges by chance: 2 n KL is about chi-squared with
    k - 1 degrees of freedom (the statistic of the G-test). The bound is the given threshold or, for
    few images, what one of 10,000 honest samples exceeds.
    """
    by_chance = float(chi2.ppf(0.9999, num_classes - 1)) / (2 * num_images)
    return max(threshold, by_chance)


def _of_table(columns: list[str], bounds: SplitThresholds) -> Iterator[Check]:
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
            describe=wording.num_missing,
        )
    if bounds.num_images is not None:
        yield Check(
            name="num_images",
            column=None,
            about="number of images",
            expected=str(bounds.num_images),
            expectation=gxe.ExpectTableRowCountToEqual(value=bounds.num_images),
            describe=wording.observed,
        )


def _of_labels(num_classes: int, bounds: SplitThresholds) -> Iterator[Check]:
    classes = list(range(num_classes))
    yield Check(
        name="label_range",
        column="label",
        about="label of each image",
        expected=wording.interval(0, num_classes - 1),
        expectation=gxe.ExpectColumnValuesToBeInSet(column="label", value_set=classes),
        describe=wording.unknown_labels(num_classes),
    )
    yield Check(
        name="classes_present",
        column="label",
        about=f"classes 0 to {num_classes - 1}",
        expected="all present",
        expectation=gxe.ExpectColumnDistinctValuesToContainSet(column="label", value_set=classes),
        describe=wording.missing_classes(num_classes),
    )
    fewest, most = bounds.min_class_size, bounds.max_class_size
    sizes = wording.class_sizes(fewest, most)
    yield from _each("class_size", "images of each class", fewest, most, sizes)
    about = "share of rows with the label of the row before"
    low, high = bounds.min_label_repeats, bounds.max_label_repeats
    yield from _mean("label_repeats", "is_label_repeat", about, low, high)
    about = "share of images nearest to the mean image of their class"
    low = bounds.min_centroid_accuracy
    yield from _mean("centroid_accuracy", CENTROID_COLUMN, about, low, None)


def _of_pixels(bounds: SplitThresholds) -> Iterator[Check]:
    yield from _each("pixel_min", "darkest pixel of each image", None, bounds.max_pixel_min)
    yield from _each("pixel_max", "brightest pixel of each image", bounds.min_pixel_max, None)
    about = "share of each image's pixels above 127"
    yield from _each("ink", about, bounds.min_ink, bounds.max_ink)
    low, high = bounds.min_mean_pixel, bounds.max_mean_pixel
    yield from _mean("mean_pixel", "pixel_mean", "mean of all pixels", low, high)


def _of_copies(bounds: SplitThresholds) -> Iterator[Check]:
    about = "images equal to an earlier one of the split"
    yield from _number("duplicates", "is_duplicate", about, bounds.max_duplicates)
    about = "images equal to one of the other split"
    yield from _number("shared_images", "is_shared", about, bounds.max_shared_images)
    about = "images equal to one of the other split once thresholded"
    yield from _number("near_duplicates", "is_near_duplicate", about, bounds.max_near_duplicates)


def _each(
    column: CheckName,
    about: str,
    low: float | None,
    high: float | None,
    describe: wording.Describe | None = None,
) -> Iterator[Check]:
    """A check of every value in the column that bears the check's name."""
    if low is None and high is None:
        return
    yield Check(
        name=column,
        column=column,
        about=about,
        expected=wording.interval(low, high),
        expectation=gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high),
        describe=describe or wording.extent(column),
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
        expected=wording.interval(low, high),
        expectation=gxe.ExpectColumnMeanToBeBetween(column=column, min_value=low, max_value=high),
        describe=wording.observed,
    )


def _number(name: CheckName, column: str, about: str, high: int | None) -> Iterator[Check]:
    """A check of how many rows a boolean column marks; they are the rows at fault."""
    if high is None:
        return
    yield Check(
        name=name,
        column=column,
        about=about,
        expected=wording.interval(None, high),
        expectation=gxe.ExpectColumnSumToBeBetween(column=column, max_value=high),
        describe=wording.observed,
        fault_column=column,
    )
