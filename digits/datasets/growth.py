"""What accepted batches have added to a dataset: by how much the bounds on its counts have moved.

The bounds of a spec are about the data that it was written for. A batch's record says exactly what
the batch added, so that the bounds stay as sharp as they were: a lost image is still noticed.
"""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Self

from digits.storage.references import Frozen
from digits.thresholds import Split, SplitThresholds


class SplitGrowth(Frozen):
    """What was added to one split; `class_sizes` gives the number of images of each class.

    The other counts say by how many the images grew that equal an earlier one of the split, one of
    the other split, or one of the other split once thresholded.
    """

    class_sizes: tuple[int, ...] = ()
    duplicates: int = 0
    shared_images: int = 0
    near_duplicates: int = 0

    @property
    def num_images(self) -> int:
        """How many images were added."""
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
        """The bounds of the split as it is now, but for class sizes: they stay about what was."""
        moved = {
            f"max_{name}": bound + getattr(self, name)
            for name in ("duplicates", "near_duplicates")
            if (bound := getattr(bounds, f"max_{name}")) is not None
        }
        # Without a bound none may be shared.
        moved["max_shared_images"] = (bounds.max_shared_images or 0) + self.shared_images
        if bounds.num_images is not None:
            moved["num_images"] = bounds.num_images + self.num_images
        return bounds.model_copy(update=moved)


class Growth(Frozen):
    """What was added to both splits."""

    train: SplitGrowth = SplitGrowth()
    test: SplitGrowth = SplitGrowth()

    def of(self, split: Split) -> SplitGrowth:
        """What was added to one split."""
        return self.train if split == "train" else self.test

    def __add__(self, other: Self) -> "Growth":
        return Growth(train=self.train + other.train, test=self.test + other.test)


def total(growths: Iterable[Growth]) -> Growth:
    """All that was added."""
    return sum(growths, Growth())
