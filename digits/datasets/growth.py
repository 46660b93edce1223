"""What accepted batches added to a dataset, which moves the bounds on its counts.

The bounds in a dataset spec describe the data it was written for. A batch's record says exactly
what the batch added, so the bounds stay as tight as they were: a lost image is still noticed.
"""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Self

from digits.storage.references import Frozen
from digits.thresholds import Split, SplitThresholds


class SplitGrowth(Frozen):
    """What was added to one split; `class_sizes` is the number of added images per class.

    The other counts are added images that equal an earlier image of the same split, an image of
    the other split, or an image of the other split after thresholding.
    """

    class_sizes: tuple[int, ...] = ()
    duplicates: int = 0
    shared_images: int = 0
    near_duplicates: int = 0

    @property
    def num_images(self) -> int:
        """Number of added images."""
        return sum(self.class_sizes)

    def __add__(self, other: Self) -> "SplitGrowth":
        sizes = [self.class_sizes, other.class_sizes]
        return SplitGrowth(
            class_sizes=tuple(map(sum, zip_longest(*sizes, fillvalue=0))),
            duplicates=self.duplicates + other.duplicates,
            shared_images=self.shared_images + other.shared_images,
            near_duplicates=self.near_duplicates + other.near_duplicates,
        )

    def widen(self, bounds: SplitThresholds) -> SplitThresholds:
        """Return the bounds of the grown split; those on class sizes stay as they are."""
        moved = {
            f"max_{name}": bound + getattr(self, name)
            for name in ("duplicates", "near_duplicates")
            if (bound := getattr(bounds, f"max_{name}")) is not None
        }
        # No bound means that no image may be shared.
        moved["max_shared_images"] = (bounds.max_shared_images or 0) + self.shared_images
        if bounds.num_images is not None:
            moved["num_images"] = bounds.num_images + self.num_images
        return bounds.model_copy(update=moved)


class Growth(Frozen):
    """What was added to both splits."""

    train: SplitGrowth = SplitGrowth()
    test: SplitGrowth = SplitGrowth()

    def of(self, split: Split) -> SplitGrowth:
        """Return what was added to one split."""
        return self.train if split == "train" else self.test

    def __add__(self, other: Self) -> "Growth":
        return Growth(train=self.train + other.train, test=self.test + other.test)


def total(growths: Iterable[Growth]) -> Growth:
    """Return the sum of all growths."""
    return sum(growths, Growth())
