"""Validate: the dataset fulfils what its spec expects, or the run ends here."""

from digits.datasets.growth import Growth
from digits.storage.references import DatasetRef, ValidationRef
from digits.storage.workspace import current_workspace
from digits.thresholds import Thresholds
from tasks.caching import step


@step("validate")
def validate(dataset: DatasetRef, thresholds: Thresholds, growth: Growth) -> ValidationRef:
    """Run the expectation suite and keep its result, also of one that fails.

    `growth` says what batches have added to the data that the thresholds are about.
    Raises ValidationFailed naming what was found, what was expected and the rows at fault.
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
    )
    if not outcome.success:
        raise ValidationFailed(outcome, store.folder(reference) / "page.html")
    return reference
