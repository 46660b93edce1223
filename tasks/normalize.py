"""Normalize: pixels to 0..1 and labels to class indices, as arrays that training maps."""

from digits.storage.references import ArraysRef, DatasetRef
from digits.storage.workspace import current_workspace
from tasks.caching import step


@step("normalize")
def normalize(dataset: DatasetRef) -> ArraysRef:
    """Store the dataset's arrays as the models take them."""
    from digits.datasets.normalization import store_arrays

    return store_arrays(dataset, current_workspace().store)
