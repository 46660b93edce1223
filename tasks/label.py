"""Predict: a folder of images becomes a table of labels. Never cached: the folder may change."""

import os
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from digits.labeling.label_reports import LabelReport
from digits.storage.workspace import current_workspace


@task(name="predict", cache_policy=NO_CACHE, persist_result=False)
def predict_folder(folder: Path, output: Path, dataset: str, *, as_is: bool | None) -> LabelReport:
    """Label all images under `folder` with the champion, into the Parquet `output`."""
    from digits.inference.loaded_versions import load_version
    from digits.labeling.label_tables import label_pictures

    workspace = current_workspace()
    champion = load_version(dataset, workspace, threads=os.cpu_count() or 1)
    return label_pictures([str(folder)], champion, output, workspace, as_is=as_is)
