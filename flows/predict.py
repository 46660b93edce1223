"""Predict: label a folder of pictures with the champion, and say whether they have drifted."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from digits.errors import UsageError
from digits.labeling.label_reports import LabelReport, label_page
from digits.registry.champion import champion_version
from digits.registry.garbage import runs_lock
from digits.storage.locks import hold
from digits.storage.workspace import current_workspace
from digits.training.devices import Device
from tasks.label import predict_folder


@flow(name="predict", flow_run_name="predict {dataset}", persist_result=False)
def predict(
    *,
    folder: Path,
    output: Path | None = None,
    dataset: str = "mnist",
    as_is: bool = False,
    device: Device = "auto",
) -> LabelReport:
    """Label all PNG and JPEG files below a folder with the champion.

    Args:
        folder: Where the pictures are, on the machine that runs this.
        output: The Parquet file to write; by default one in artifacts/predictions.
        dataset: Whose champion labels them.
        as_is: They are like the dataset's: do not centre and scale.
        device: A GPU if there is one, or what you say.
    """
    workspace = current_workspace()
    champion_version(dataset, workspace)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder on this machine")
    path = output or workspace.settings.artifacts_dir / "predictions" / f"{flow_run.id}.parquet"
    with hold(runs_lock(workspace), shared=True):
        labels = predict_folder(folder, path, dataset, device, as_is=as_is)
    create_markdown_artifact(
        key=f"predictions-{dataset.replace('_', '-')}",
        markdown=label_page(labels),
        description="What was labelled, and whether it is like the training data",
    )
    return labels
