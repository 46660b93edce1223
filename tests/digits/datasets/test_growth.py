from digits.datasets.growth import Growth, SplitGrowth, total
from digits.thresholds import SplitThresholds


def test_bounds_on_counts_grow_by_exactly_what_was_added() -> None:
    bounds = SplitThresholds(
        num_images=100, max_duplicates=0, max_near_duplicates=9, min_class_size=7, max_ink=0.5
    )
    growth = SplitGrowth(class_sizes=(3, 4), duplicates=1, near_duplicates=2, shared_images=5)

    widened = growth.widen(bounds)

    assert widened == bounds.model_copy(
        update={
            "num_images": 107,
            "max_duplicates": 1,
            "max_near_duplicates": 11,
            "max_shared_images": 5,
        }
    )


def test_a_bound_that_is_off_stays_off() -> None:
    widened = SplitGrowth(class_sizes=(3, 4), duplicates=1, near_duplicates=2).widen(
        SplitThresholds()
    )

    assert widened == SplitThresholds(max_shared_images=0)


def test_growths_add_up_class_by_class() -> None:
    one = Growth(train=SplitGrowth(class_sizes=(1, 2), duplicates=1))
    two = Growth(
        train=SplitGrowth(class_sizes=(10, 0)), test=SplitGrowth(class_sizes=(0, 1), duplicates=2)
    )

    assert total([one, two]) == Growth(
        train=SplitGrowth(class_sizes=(11, 2), duplicates=1),
        test=SplitGrowth(class_sizes=(0, 1), duplicates=2),
    )
    assert total([]) == Growth()
