"""The bounds that a dataset must keep, as the [thresholds] table of its spec states them.

Every bound is off until the spec names it. What each bound is compared with is computed by
digits.validation.summary; the expectation made of it is in digits.validation.checks.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, Field, model_validator

from digits.defects import DefectName, Severity

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

ImageCheck = Literal[
    "columns",
    "complete",
    "num_images",
    "classes_present",
    "class_size",
    "pixel_min",
    "pixel_max",
    "blank_images",
    "inverted_colours",
    "ink",
    "mean_pixel",
    "duplicates",
    "known_images",
    "shared_images",
    "near_duplicates",
    "label_conflicts",
    "centroid_accuracy",
    "label_repeats",
    "label_divergence",
]
"""What images and labels are checked for, once they were read."""

CheckName = Literal[DefectName, ImageCheck]
"""What a dataset is checked for: the names in results, pages, messages and a spec's severities."""

Count = Annotated[int, Field(ge=0)]
Pixel = Annotated[int, Field(ge=0, le=255)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class CentroidFile(BaseModel, frozen=True, extra="forbid"):
    """The mean image of each class, frozen beside the spec.

    It is named by content, so that a cache key made of the thresholds notices another file.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*\.npy$")]
    """File in the spec's folder: uint8 array of shape (num_classes, height, width)."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SplitThresholds(BaseModel, frozen=True, extra="forbid"):
    """The bounds of one split. Pixels are 0..255; shares are 0..1; None means unbounded."""

    num_images: Annotated[int, Field(gt=0)] | None = None
    """Exact number of images."""

    min_class_size: Count | None = None
    """Fewest images that a class may have."""
    max_class_size: Count | None = None
    """Most images that a class may have."""

    max_pixel_min: Pixel | None = None
    """Brightest that the darkest pixel of an image may be; a grey background breaks it."""
    min_pixel_max: Pixel | None = None
    """Darkest that the brightest pixel of an image may be; blank or faded images break it."""

    min_ink: Share | None = None
    """Least share of an image's pixels above 127."""
    max_ink: Share | None = None
    """Greatest share of an image's pixels above 127; inverted colours break it."""

    min_mean_pixel: Annotated[float, Field(ge=0, le=255)] | None = None
    """Least mean over all pixels of the split."""
    max_mean_pixel: Annotated[float, Field(ge=0, le=255)] | None = None
    """Greatest mean over all pixels of the split."""

    max_duplicates: Count | None = None
    """Most images that may equal an earlier image of the same split."""
    max_shared_images: Count | None = None
    """Most images that may equal an image of the other split; without it, none may."""
    max_near_duplicates: Count | None = None
    """Most images that may equal one of the other split after thresholding, but not before."""

    min_centroid_accuracy: Share | None = None
    """Least share of images whose nearest class centroid is that of their label.

    Wrong labels and turned, mirrored or shifted images break it. Needs `Thresholds.centroids`.
    """

    min_label_repeats: Share | None = None
    """Least share of rows whose label equals that of the row before; 0 in interleaved files."""
    max_label_repeats: Share | None = None
    """Greatest share of rows whose label equals that of the row before; near 1 in sorted files."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for quantity in ("class_size", "ink", "mean_pixel", "label_repeats"):
            low, high = getattr(self, f"min_{quantity}"), getattr(self, f"max_{quantity}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{quantity} = {low} is above max_{quantity} = {high}")
        return self


class Thresholds(BaseModel, frozen=True, extra="forbid"):
    """All bounds of a dataset.

    Without any, what holds of every dataset is checked all the same: every value is known, every
    label is in 0..num_classes-1, every class is present in each split, no image is blank, none is
    in both splits or has two labels, pixels are not scaled to 0..1, and the colours of the test
    images are as those of train.
    """

    train: SplitThresholds = SplitThresholds()
    test: SplitThresholds = SplitThresholds()

    centroids: CentroidFile | None = None
    """What `min_centroid_accuracy` is measured against; None: nothing is."""

    max_label_divergence: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Greatest KL divergence of the test split's labels from those of train, in nats.

    A small split exceeds it by chance: digits.validation.checks.divergence_bound raises it by size.
    """

    severity: Mapping[CheckName, Severity] = Field(default_factory=dict)
    """What the failure of a check means, by its name: "error" (what is not named here) refuses the
    data, "warning" is only shown, "off" is not looked at."""

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        needs_centroids = any(
            split.min_centroid_accuracy is not None for split in (self.train, self.test)
        )
        if needs_centroids and self.centroids is None:
            raise ValueError("min_centroid_accuracy needs a [thresholds.centroids] table")
        return self

    def of(self, split: Split) -> SplitThresholds:
        """The bounds of one split."""
        return self.train if split == "train" else self.test

    def severity_of(self, check: CheckName) -> Severity:
        """What the failure of a check means."""
        return self.severity.get(check, "error")
