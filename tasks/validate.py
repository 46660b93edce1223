"""Validate: the dataset meets the expectations of its spec, or the run ends here."""

from digits.datasets.growth import Growth
from digits.storage.references import DatasetRef, ValidationRef
from digits.storage.workspace import current_workspace
from digits.thresholds import Thresholds
from tasks.caching import step


@step("validate")
def validate(dataset: DatasetRef, thresholds: Thresholds, growth: Growth) -> ValidationRef:
    """Run the expectation suite and store its result, even if expectations fail.

    `growth` is what batches added to the data that the thresholds were set for.
    Raises ValidationFailed with the found and expected values and the affected rows.
    """
    from digits.validation.dataset_validation import validate_dataset
    from digits.validation.findings import ValidationFailed

    workspace = current_workspace()
    store = workspace.store
    with store.create("validations") as draft:
        outcome = validate_dataset(
            store.folder(dataset),
            dataset.layout,
            thresholds,
            draft.path,
            workspace.settings.datasets_dirs,
            growth=growth,
        )
    reference = ValidationRef(
        digest=draft.digest,
        num_expectations=outcome.num_expectations,
        warnings=tuple(str(warning) for warning in outcome.warnings),
        num_shared_images=outcome.num_shared_images,
    )
    if not outcome.success:
        raise ValidationFailed(outcome, store.folder(reference) / "page.html")
    return reference
