"""Predict: a folder of images becomes a table of labels. Never cached: the folder may change."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from digits.labeling.label_reports import LabelReport
from digits.registry.champion import load_champion
from digits.storage.workspace import current_workspace
from digits.training.devices import Device, configure_backend, resolve_device


@task(name="predict", cache_policy=NO_CACHE, persist_result=False)
def predict_folder(
    folder: Path, output: Path, dataset: str, device: Device, *, as_is: bool | None
) -> LabelReport:
    """Label all images under `folder` with the champion, into the Parquet `output`."""
    configure_backend(resolve_device(device))
    from digits.labeling.label_tables import label_pictures

    workspace = current_workspace()
    champion = load_champion(dataset, workspace)
    return label_pictures([str(folder)], champion, output, workspace, as_is=as_is)
