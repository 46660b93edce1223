"""Normalize: pixels to 0..1 and labels to class indices, as arrays that training maps."""

from digits.references import ArraysRef, DatasetRef
from digits.workspace import current_workspace
from tasks.caching import step


@step("normalize")
def normalize(dataset: DatasetRef) -> ArraysRef:
    """Store the dataset's arrays as the models take them."""
    from digits.normalization import store_arrays

    return store_arrays(dataset, current_workspace().store)
