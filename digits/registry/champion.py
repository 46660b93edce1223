"""Load a dataset's champion with Keras: every byte is checked, no code in it is executed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from digits.errors import DamagedError, DigitsError, UsageError
from digits.registry.ledger import Ledger, ModelVersion
from digits.spec import Layout, load_spec
from digits.storage.lineage import read_lineage
from digits.storage.references import Kind, Reference
from digits.storage.workspace import Workspace

if TYPE_CHECKING:
    import keras


class DatasetBundle(Reference):
    """A dataset bundle identified only by its digest, as recorded in a lineage."""

    kind: ClassVar[Kind] = "datasets"


@dataclass(frozen=True)
class KerasChampion:
    """The champion as a Keras model: its version, its archive, and the dataset's image layout."""

    version: ModelVersion
    path: Path
    model: "keras.Model"
    layout: Layout


def champion_version(dataset: str, workspace: Workspace) -> ModelVersion:
    """Return the champion's model version. Raises UsageError if it or the dataset is missing."""
    load_spec(dataset, workspace.settings)
    version = Ledger(dataset, workspace.settings).champion()
    if version is None:
        raise UsageError(
            f"{dataset} has no champion yet; `digits run --dataset {dataset}` makes one"
        )
    return version


def load_keras_champion(dataset: str, workspace: Workspace) -> KerasChampion:
    """Load the champion after checking every byte. The backend must already be configured.

    Only exports need Keras; digits.inference loads a version to label images with. Raises
    UsageError if there is no champion, and DamagedError if it is corrupted.
    """
    version = champion_version(dataset, workspace)
    layout = load_spec(dataset, workspace.settings).layout
    workspace.store.verify(version.model)
    from digits.training.evaluation import load_model

    path = workspace.store.folder(version.model) / "model.keras"
    model = load_model(path)
    found = (tuple(model.input_shape[1:]), model.output_shape[-1])
    if found != ((*layout.image_shape, 1), layout.num_classes):
        height, width = layout.image_shape
        raise DigitsError(
            f"the champion of {dataset} does not match the dataset spec: it was trained on "
            f"{'x'.join(map(str, found[0]))} images of {found[1]} classes (expected "
            f"{height}x{width}x1 and {layout.num_classes}); `digits run --dataset {dataset}` "
            "trains a new one"
        )
    return KerasChampion(version=version, path=path, model=model, layout=layout)


def dataset_folder(version: ModelVersion, workspace: Workspace) -> Path:
    """Return the checked bundle of the dataset a model version was trained and scored on.

    Raises DigitsError if the bundle is missing or corrupted, or was never recorded.
    """
    lineage = read_lineage(version.lineage, workspace.store)
    if "ingest" not in lineage:
        raise DigitsError(
            f"the training data of version {version.number} was not recorded; promote another "
            "version"
        )
    bundle = DatasetBundle(digest=lineage["ingest"].output)
    try:
        workspace.store.verify(bundle)
    except DamagedError as error:
        raise DigitsError(
            f"the training data of version {version.number} is missing or corrupted ({error}); "
            "restore it from a backup, or run `digits run` if the dataset has not changed since"
        ) from error
    return workspace.store.folder(bundle)
