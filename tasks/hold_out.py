"""Hold out: a part of the training set in place of the test set, to choose settings on."""

from digits.storage.references import ArraysRef
from digits.storage.workspace import current_workspace
from tasks.caching import step


@step("hold_out")
def hold_out(arrays: ArraysRef) -> ArraysRef:
    """Store arrays that are scored on held-out training images and lack the test set."""
    from digits.datasets.holding_out import hold_out as split

    return split(arrays, current_workspace().store)
