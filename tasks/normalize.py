"""Normalize: pixels to 0..1 and labels to class indices, as arrays for training."""

from digits.storage.references import ArraysRef, DatasetRef
from digits.storage.workspace import current_workspace
from tasks.caching import step


@step("normalize")
def normalize(dataset: DatasetRef) -> ArraysRef:
    """Store the dataset as arrays in the models' input format."""
    from digits.datasets.normalization import store_arrays

    return store_arrays(dataset, current_workspace().store)
