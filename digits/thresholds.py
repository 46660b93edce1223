"""The names of all checks of a dataset, and the [thresholds] table of its spec.

A bound is off unless the spec sets it. digits.validation.summary computes the values that bounds
are compared with, and digits.validation.checks turns bounds into expectations. To add a check of
each image, write a function in a file in digits/validation and add an entry to IMAGE_CHECKS.
"""

import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, Field, model_validator

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

DefectName = Literal[
    "empty_file",
    "corrupt_file",
    "file_type",
    "byte_order",
    "unbounded",
    "count_mismatch",
    "image_size",
    "value_type",
    "not_a_number",
    "pixel_range",
    "already_scaled",
    "label_missing",
    "label_unknown",
]
"""Checks of files while they are read."""

DEFECTS: tuple[DefectName, ...] = get_args(DefectName)
SPLIT_CHECKS = (
    "columns",
    "complete",
    "num_images",
    "classes_present",
    "class_size",
    "blank_images",
    "inverted_colours",
    "mean_pixel",
    "duplicates",
    "known_images",
    "shared_images",
    "near_duplicates",
    "label_conflicts",
    "centroid_accuracy",
    "label_repeats",
    "label_divergence",
)
"""Checks of all images and labels of a split or batch."""


@dataclass(frozen=True)
class ImageCheck:
    """A number measured for each image, which a spec bounds by min_NAME and max_NAME.

    `about` describes it in messages. `measure` takes images uint8 (n, height, width) and returns
    one number per image (n,); if given as "module:function", it is imported only when it is used.
    Bounds must be between `lowest` and `highest`.
    """

    about: str
    measure: str | Callable[[Any], Any]
    lowest: float = -math.inf
    highest: float = math.inf

    def of(self, images: Any) -> Any:
        """Measure images; see `measure`."""
        measure = self.measure
        return (pkgutil.resolve_name(measure) if isinstance(measure, str) else measure)(images)


IMAGE_CHECKS: Mapping[str, ImageCheck] = MappingProxyType(
    {
        "pixel_min": ImageCheck(
            about="darkest pixel of each image",
            measure="digits.validation.image_measures:darkest_pixel",
            lowest=0,
            highest=255,
        ),
        "pixel_max": ImageCheck(
            about="brightest pixel of each image",
            measure="digits.validation.image_measures:brightest_pixel",
            lowest=0,
            highest=255,
        ),
        "ink": ImageCheck(
            about="share of each image's pixels above 127",
            measure="digits.validation.image_measures:ink",
            lowest=0,
            highest=1,
        ),
    }
)


def _check_name(name: str) -> str:
    if name not in (*DEFECTS, *SPLIT_CHECKS, *IMAGE_CHECKS):
        known = ", ".join((*DEFECTS, *SPLIT_CHECKS, *IMAGE_CHECKS))
        raise ValueError(f"unknown check {name!r} (expected one of {known})")
    return name


CheckName = Annotated[str, AfterValidator(_check_name)]
"""Name of a check, as in results, pages, messages and a spec's severities."""

Severity = Literal["error", "warning", "off"]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class CentroidFile(BaseModel, frozen=True, extra="forbid"):
    """The mean image of each class, in a file next to the spec.

    Identified by its SHA-256, so a different file changes the cache keys that cover the thresholds.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*\.npy$")]
    """File in the spec's folder: uint8 array of shape (num_classes, height, width)."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SplitThresholds(BaseModel, frozen=True, extra="allow"):
    """The bounds of one split. Pixels are 0..255; shares are 0..1; None means unbounded.

    In addition to the fields below, it accepts min_NAME and max_NAME for each of IMAGE_CHECKS.
    """

    __pydantic_extra__: dict[str, Annotated[float, Field(allow_inf_nan=False)]]

    num_images: Annotated[int, Field(gt=0)] | None = None
    """Exact number of images."""

    min_class_size: Count | None = None
    """Minimum number of images per class."""
    max_class_size: Count | None = None
    """Maximum number of images per class."""

    min_mean_pixel: Annotated[float, Field(ge=0, le=255)] | None = None
    """Minimum mean of all pixels of the split."""
    max_mean_pixel: Annotated[float, Field(ge=0, le=255)] | None = None
    """Maximum mean of all pixels of the split."""

    max_duplicates: Count | None = None
    """Maximum number of images equal to an earlier image of the same split."""
    max_shared_images: Count | None = None
    """Maximum number of images equal to an image of the other split; None means 0."""
    max_near_duplicates: Count | None = None
    """Maximum number of images equal to one of the other split only after thresholding."""

    min_centroid_accuracy: Share | None = None
    """Minimum share of images whose nearest class centroid is that of their label.

    Wrong labels and rotated, mirrored or shifted images lower it. Needs `Thresholds.centroids`.
    """

    min_label_repeats: Share | None = None
    """Minimum share of rows whose label equals the previous row's; 0 in interleaved files."""
    max_label_repeats: Share | None = None
    """Maximum share of rows whose label equals the previous row's; near 1 in sorted files."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        for key, bound in (self.model_extra or {}).items():
            side, _, name = key.partition("_")
            check = IMAGE_CHECKS.get(name)
            if side not in ("min", "max") or check is None:
                raise ValueError(f"unknown key {key!r}")
            if not check.lowest <= bound <= check.highest:
                raise ValueError(
                    f"{key} = {bound:g} is out of range "
                    f"(expected {check.lowest:g} to {check.highest:g})"
                )
        for name in ("class_size", "mean_pixel", "label_repeats", *IMAGE_CHECKS):
            low, high = self.of(name)
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{name} = {low:g} is above max_{name} = {high:g}")
        return self

    def of(self, name: str) -> tuple[float | None, float | None]:
        """Return the lower and the upper bound of a check that can have both."""
        return getattr(self, f"min_{name}", None), getattr(self, f"max_{name}", None)


class Thresholds(BaseModel, frozen=True, extra="forbid"):
    """All bounds of a dataset.

    Even without any, every dataset is checked for the following: no value is missing, every label
    is in 0..num_classes-1, every class is present in each split, no image is blank, in both splits
    or has two labels, pixels are not already scaled to 0..1, and the colors of the test images are
    not inverted compared with train.
    """

    train: SplitThresholds = SplitThresholds()
    test: SplitThresholds = SplitThresholds()

    centroids: CentroidFile | None = None
    """Centroids for `min_centroid_accuracy`; None if it is not measured."""

    max_label_divergence: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Maximum KL divergence of the test split's labels from those of train, in nats.

    A small split can exceed it by chance, so digits.validation.checks.divergence_bound raises it
    depending on the size.
    """

    severity: Mapping[CheckName, Severity] = Field(default_factory=dict)
    """What a failure means, by check name: "error" (the default) rejects the data, "warning" is
    only shown, "off" skips the check."""

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        needs_centroids = any(
            split.min_centroid_accuracy is not None for split in (self.train, self.test)
        )
        if needs_centroids and self.centroids is None:
            raise ValueError("min_centroid_accuracy needs a [thresholds.centroids] table")
        return self

    def of(self, split: Split) -> SplitThresholds:
        """Return the bounds of one split."""
        return self.train if split == "train" else self.test

    def severity_of(self, check: CheckName) -> Severity:
        """Return what a failure of the check means."""
        return self.severity.get(check, "error")
