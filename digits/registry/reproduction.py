"""Train a model version again and report whether its weights are bit-identical."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from digits.cache.differences import differences, surrounding_differences
from digits.cache.keys import step_key
from digits.datasets.sources.content import content_of
from digits.errors import DigitsError
from digits.models import MODELS, Builder
from digits.progress import Progress
from digits.registry.garbage import running
from digits.registry.ledger import Ledger, ModelVersion, find_version
from digits.spec import load_spec
from digits.storage.lineage import LineageStep, read_lineage
from digits.storage.references import ArraysRef, Frozen, ModelRef
from digits.storage.workspace import Workspace
from digits.training.checkpoints import Checkpoint
from digits.training.devices import configure_backend, device_for_one, resolve_device
from digits.training.precisions import check_precision

logger = logging.getLogger(__name__)


class Reproduction(Frozen):
    """The result; `differences` lists what has changed since the original training."""

    version: int
    is_same: bool
    recorded: str
    reproduced: str
    differences: tuple[str, ...]


def reproduce(dataset: str, number: int, workspace: Workspace) -> Reproduction:
    """Train version `number` again from its recorded data and settings.

    The cache and the ledger do not change; a missing model that is reproduced identically is
    restored to the store. Raises UsageError if there is no such version, and DigitsError if its
    data or its model's code is neither available nor reproducible.
    """
    version = find_version(Ledger(dataset, workspace.settings).entries(), number, dataset)
    with running(workspace):
        return _reproduce(version, dataset, workspace)


def _reproduce(version: ModelVersion, dataset: str, workspace: Workspace) -> Reproduction:
    arrays = _arrays_of(version, dataset, workspace)
    device = resolve_device("cpu" if version.model.device == "cpu" else "auto")
    check_precision(version.model.settings.precision, device)
    build = _builder(version.model, device)
    found = tuple(_differences(version, arrays, device, workspace))
    for difference in found:
        logger.info("changed since version %d was trained: %s", version.number, difference)
    digest = _train_again(version.model, build, arrays, device, workspace)
    return Reproduction(
        version=version.number,
        is_same=digest == version.model.digest,
        recorded=version.model.digest,
        reproduced=digest,
        differences=found,
    )


def _differences(
    version: ModelVersion, arrays: ArraysRef, device: str, workspace: Workspace
) -> Iterator[str]:
    arguments = {
        "arrays": arrays,
        "model": version.model.model,
        "settings": version.model.settings,
        "device": device,
    }
    training = _training(version, workspace)
    yield from differences(training.key, step_key("train", arguments))
    yield from surrounding_differences(training.processor, training.variables)


def _training(version: ModelVersion, workspace: Workspace) -> LineageStep:
    lineage = read_lineage(version.lineage, workspace.store)
    label = f"train {version.model.model}"
    if label not in lineage:
        raise DigitsError(
            f"cannot reproduce version {version.number}: the source code was edited during its "
            "training, so its code was not recorded; reproduce another version"
        )
    return lineage[label]


def _arrays_of(version: ModelVersion, dataset: str, workspace: Workspace) -> ArraysRef:
    """The arrays the version was trained on, rebuilt from the sources if necessary."""
    then = _training(version, workspace).key.inputs["arrays"]
    for record in workspace.records.of_step("normalize"):
        reference = record.reference
        if not isinstance(reference, ArraysRef) or reference.digest != then:
            continue
        if workspace.store.is_whole(reference):
            return reference
    logger.info("the arrays of version %d are not in the store; rebuilding them", version.number)
    arrays = _prepared_again(_batches_of(version, workspace), dataset, workspace)
    if arrays.digest != then:
        raise DigitsError(
            f"cannot reproduce version {version.number}: its data has changed, and {dataset} now "
            f"gives arrays {arrays.digest[:12]} (expected {then[:12]}); restore the old source "
            "files, or reproduce a newer version"
        )
    return arrays


def _batches_of(version: ModelVersion, workspace: Workspace) -> Mapping[str, str]:
    """The batches the dataset contained when the version was trained."""
    ingested = read_lineage(version.lineage, workspace.store).get("ingest")
    batches: Mapping[str, str] = ingested.key.inputs.get("batches", {}) if ingested else {}
    return batches


def _prepared_again(batches: Mapping[str, str], dataset: str, workspace: Workspace) -> ArraysRef:
    from digits.datasets.ingestion import ingest_dataset
    from digits.datasets.normalization import store_arrays

    spec = load_spec(dataset, workspace.settings)
    content = content_of(spec, workspace.settings)
    ingested = ingest_dataset(
        spec.layout, content, spec.read_options, spec, workspace, added=batches.values()
    )
    return store_arrays(ingested, workspace.store)


def _builder(model: ModelRef, device: str) -> Builder:
    configure_backend(device)
    if model.model not in MODELS:
        raise DigitsError(
            f"unknown model {model.model!r} (known: {', '.join(MODELS)}); check out the code "
            "that defined it, or reproduce another version"
        )
    return MODELS[model.model].build


def _train_again(
    model: ModelRef, build: Builder, arrays: ArraysRef, device: str, workspace: Workspace
) -> str:
    from digits.training.trainer import train_model

    with (
        device_for_one(device, workspace.settings, f"train {model.model}: waiting for the GPU"),
        tempfile.TemporaryDirectory(prefix="digits-") as scratch,
        workspace.store.create("models") as draft,
    ):
        train_model(
            workspace.store.folder(arrays),
            arrays,
            build,
            model.settings,
            # A separate checkpoint: resuming from a run's own would skip the training to verify.
            checkpoint=Checkpoint(Path(scratch)),
            progress=Progress(f"train {model.model}"),
            output=draft.path,
        )
    return draft.digest
