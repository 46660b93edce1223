"""The champion of a dataset, ready to label: every byte checked, none of its code run."""

from dataclasses import dataclass
from functools import cached_property
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

    from digits.training.scoring import Scorer


class DatasetBundle(Reference):
    """A dataset's bundle by its digest alone, as a lineage names it."""

    kind: ClassVar[Kind] = "datasets"


@dataclass(frozen=True)
class Champion:
    """A version that is champion now, its file, its Keras model, and what its images look like."""

    version: ModelVersion
    path: Path
    model: "keras.Model"
    layout: Layout

    @cached_property
    def scorer(self) -> "Scorer":
        """Its answers to many images, fast."""
        from digits.training.scoring import Scorer

        return Scorer(self.model)


def champion_version(dataset: str, workspace: Workspace) -> ModelVersion:
    """The champion's version. Raises UsageError where there is none, or no such dataset."""
    load_spec(dataset, workspace.settings)
    version = Ledger(dataset, workspace.settings).champion()
    if version is None:
        raise UsageError(
            f"{dataset} has no champion yet; `digits run --dataset {dataset}` makes one"
        )
    return version


def load_champion(dataset: str, workspace: Workspace) -> Champion:
    """The champion, after every byte of it was checked. The backend must be configured.

    Raises UsageError where there is none, DamagedError where it is not as it was written, and
    DigitsError where the dataset's spec is now about other images or classes.
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
            f"the champion of {dataset} takes {'x'.join(map(str, found[0]))} and knows {found[1]} "
            f"classes; its spec now says {height}x{width}x1 and {layout.num_classes}: "
            f"`digits run --dataset {dataset}` trains one for the spec"
        )
    return Champion(version=version, path=path, model=model, layout=layout)


def dataset_folder(version: ModelVersion, workspace: Workspace) -> Path:
    """Where the data lies that a version was trained and scored on, after all of it was checked.

    Raises DigitsError where it is not in the store any more, or was never noted.
    """
    lineage = read_lineage(version.lineage, workspace.store)
    if "ingest" not in lineage:
        raise DigitsError(
            f"which data version {version.number} was trained on was not kept; promote another"
        )
    bundle = DatasetBundle(digest=lineage["ingest"].output)
    try:
        workspace.store.verify(bundle)
    except DamagedError as error:
        raise DigitsError(
            f"the data that version {version.number} was trained on is not in the store as it was "
            f"({error}); `digits run` makes it again from the same sources"
        ) from error
    return workspace.store.folder(bundle)
