"""Train: one model, for a run on another machine that asked for this kind of machine."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from digits.models import TrainingSettings
from digits.progress import ending_together
from digits.registry.garbage import running
from digits.storage.references import ArraysRef
from digits.storage.workspace import current_workspace
from digits.training.devices import Device, resolve_device
from flows.elsewhere import KEY_LABEL, require_store
from flows.parameters import ModelName
from flows.serving.watch import hold_run_lock
from tasks.train import train as train_here


@flow(
    name="train",
    flow_run_name="train {model}",
    persist_result=False,
    on_running=[hold_run_lock],
)
def train(
    *, arrays: ArraysRef, model: ModelName, settings: TrainingSettings, device: Device = "auto"
) -> None:
    """Train a model on data in the store that machines share, for `retrain --train-on`.

    Args:
        arrays: The prepared data, as a run refers to it.
        model: Model to train.
        settings: Settings of the training.
        device: Device to train on; auto uses a GPU if one is available.
    """
    workspace = current_workspace()
    require_store(workspace)
    with running(workspace), ending_together():
        made = train_here(arrays, model, settings, resolve_device(device))
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(flow_run.id, {KEY_LABEL: made.made_by})
