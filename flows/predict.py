"""Predict: label a folder of images with the champion, and report whether they have drifted."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from digits.errors import DataError, UsageError
from digits.labeling.label_reports import LabelReport, label_page
from digits.registry.champion import champion_version
from digits.registry.garbage import runs_lock
from digits.storage.locks import hold
from digits.storage.workspace import current_workspace
from flows.serving.watch import hold_run_lock
from tasks.label import predict_folder


@flow(
    name="predict",
    flow_run_name="predict {dataset}",
    persist_result=False,
    on_running=[hold_run_lock],
)
def predict(
    *,
    folder: Path,
    output: Path | None = None,
    dataset: str = "mnist",
    as_is: bool | None = None,
) -> LabelReport:
    """Label all images below a folder with the champion.

    Args:
        folder: Folder of images, on the machine that executes the run.
        output: Parquet file to write (default: a new one in artifacts/predictions).
        dataset: Dataset whose champion labels the images.
        as_is: Whether the images already look like the dataset's, so that they are not centered
            and scaled (default: what the dataset's spec says).
    """
    workspace = current_workspace()
    champion_version(dataset, workspace)
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder on this machine")
    path = output or workspace.settings.artifacts_dir / "predictions" / f"{flow_run.id}.parquet"
    with hold(runs_lock(workspace), shared=True):
        labels = predict_folder(folder, path, dataset, as_is=as_is)
    create_markdown_artifact(
        key=f"predictions-{dataset.replace('_', '-')}",
        markdown=label_page(labels),
        description="The labels, and whether the images have drifted from the training data",
    )
    if not labels.num_labelled:
        why = "; ".join(labels.passed) or f"{labels.num_refused:,} images were refused"
        raise DataError(f"{folder}: no image was labeled: {why}")
    return labels
