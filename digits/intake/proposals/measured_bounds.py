"""Bounds for a new dataset, measured on its current images, with room for later ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from digits.thresholds import Split
from digits.validation.summary import CENTROID_COLUMN

Value = int | float
# Four standard errors: one honest batch in 16,000 is further off by chance.
ERRORS = 4


@dataclass(frozen=True)
class Bounds:
    """The [thresholds] of a dataset spec, and the minimum accuracy of a champion."""

    splits: Mapping[Split, Mapping[str, Value]]
    max_label_divergence: float
    floor: float
    centroid_accuracy: float

    @property
    def by_key(self) -> dict[str, Value]:
        """All values by their key in the spec, such as thresholds.train.min_ink."""
        return {
            "floor": self.floor,
            "thresholds.max_label_divergence": self.max_label_divergence,
            **{
                f"thresholds.{split}.{name}": value
                for split, values in self.splits.items()
                for name, value in values.items()
            },
        }


def measure_bounds(
    frames: Mapping[Split, pd.DataFrame], num_classes: int, *, is_split: bool
) -> Bounds:
    """Measure bounds for both splits; `is_split` says whether the files have a test split."""
    accuracy = float(frames["test"][CENTROID_COLUMN].mean())
    return Bounds(
        splits={split: _of_split(frame, is_split) for split, frame in frames.items()},
        max_label_divergence=_up(max(0.003, 2 * _divergence(frames, num_classes)), 3),
        # Halfway between guessing and the nearest mean image, which any model should beat.
        floor=_down((1 / num_classes + max(accuracy, 1 / num_classes)) / 2, 2),
        centroid_accuracy=accuracy,
    )


def _of_split(frame: pd.DataFrame, is_split: bool) -> dict[str, Value]:
    num = len(frame)
    spare = math.ceil(num / 100)
    hits, repeats = float(frame[CENTROID_COLUMN].mean()), float(frame["is_label_repeat"].mean())
    mean = float(frame["pixel_mean"].mean())
    bounds: dict[str, Value] = {
        "min_class_size": int(frame["class_size"].min()) // 2,
        "max_pixel_min": min(255, math.ceil(float(frame["pixel_min"].max()) * 1.25)),
        "min_pixel_max": math.floor(float(frame["pixel_max"].min()) * 0.75),
        "min_ink": _down(float(frame["ink"].min()) / 2, 3),
        "max_ink": _up(min(1.0, float(frame["ink"].max()) * 1.25), 3),
        "min_mean_pixel": _down(mean * 0.85, 1),
        "max_mean_pixel": _up(min(255.0, mean * 1.15), 1),
        "max_duplicates": int(frame["is_duplicate"].sum()) + spare,
        # A split by content puts equal images into the same split.
        "max_shared_images": int(frame["is_shared"].sum()) if is_split else 0,
        "max_near_duplicates": int(frame["is_near_duplicate"].sum()) + spare,
        "min_centroid_accuracy": max(0.0, _down(hits - 0.05 - ERRORS * _error(hits, num), 2)),
    }
    # Files sorted by class repeat labels all the time, so they get no bound.
    if repeats <= 0.5:
        bounds["max_label_repeats"] = min(
            1.0, _up(repeats + 0.05 + ERRORS * _error(repeats, num), 2)
        )
    return bounds


def _error(share: float, num: int) -> float:
    """Standard error of a share; for a share of 0 or 1, as if a single image differed."""
    return math.sqrt(max(share * (1 - share), 1 / num) / num)


def _divergence(frames: Mapping[Split, pd.DataFrame], num_classes: int) -> float:
    """KL divergence of the test labels from the train labels, in nats."""
    counts = {
        split: np.bincount(frame["label"], minlength=num_classes) for split, frame in frames.items()
    }
    test, train = (counts[split] / counts[split].sum() for split in ("test", "train"))
    return float((test * np.log(test / train)).sum())


# The inner rounding keeps a float's last digits from moving the result by one place.
def _up(value: float, places: int) -> float:
    return math.ceil(round(value * 10.0**places, 6)) / 10.0**places


def _down(value: float, places: int) -> float:
    return math.floor(round(value * 10.0**places, 6)) / 10.0**places
