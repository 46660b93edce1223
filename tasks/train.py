"""Train: one model, with one recipe, on one kind of device."""

from digits.models import TrainingSettings
from digits.progress import Progress
from digits.storage.references import ArraysRef, ModelRef
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend, device_for_one
from tasks.caching import current_key, step


@step("train")
def train(arrays: ArraysRef, model: str, settings: TrainingSettings, device: str) -> ModelRef:
    """Train `model`, continuing from its last checkpoint if a killed run left one."""
    configure_backend(device)
    from digits.models import MODELS
    from digits.training.checkpoints import Checkpoint
    from digits.training.trainer import train_model

    workspace = current_workspace()
    with (
        device_for_one(device, workspace.settings, f"train {model}: waiting for the GPU"),
        workspace.store.create("models") as draft,
    ):
        num_parameters, seconds = train_model(
            workspace.store.folder(arrays),
            arrays,
            MODELS[model].build,
            settings,
            checkpoint=Checkpoint(
                workspace.settings.artifacts_dir / "checkpoints" / current_key(),
                workspace.objects,
            ),
            progress=Progress(f"train {model}"),
            output=draft.path,
        )
    return ModelRef(
        digest=draft.digest,
        model=model,
        num_parameters=num_parameters,
        settings=settings,
        device=device,
        seconds=seconds,
    )
