"""A champion of the small dataset, produced as in a run but without Prefect."""

from digits.datasets.ingestion import ingest_dataset
from digits.datasets.normalization import store_arrays
from digits.datasets.sources.content import content_of
from digits.progress import Progress
from digits.recipes import training_settings
from digits.registry.ledger import Ledger, ModelVersion
from digits.registry.onnx_forms import make_form
from digits.registry.promotion import decide
from digits.registry.promotion_rule import Rule
from digits.settings import Settings
from digits.spec import load_spec
from digits.storage.lineage import LineageStep
from digits.storage.records import StepKey
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.storage.workspace import Workspace
from digits.training.checkpoints import Checkpoint
from digits.training.devices import configure_backend
from tests.support.small_dataset import NAME, write_small_dataset


def crown(settings: Settings, model: str = "mlp", *, epochs: int = 5) -> ModelVersion:
    """Train a model on the small dataset in a workspace and promote it."""
    write_small_dataset(settings)
    workspace, spec = Workspace(settings), load_spec(NAME, settings)
    dataset = ingest_dataset(
        spec.layout, content_of(spec, settings), spec.read_options, spec, workspace
    )
    arrays = store_arrays(dataset, workspace.store)
    trained = _train(model, arrays, epochs, workspace)
    scored = _evaluate(trained, arrays, workspace)
    lineage = {
        step: LineageStep(key=StepKey(step=step, inputs={}, code={}, libraries={}), output=digest)
        for step, digest in (("ingest", dataset.digest), ("normalize", arrays.digest))
    }
    rule = Rule(floor=spec.floor)
    decide(
        dataset,
        [(trained, scored)],
        None,
        rule=rule,
        lineage=lineage,
        forms=[make_form(trained, arrays, "cpu", workspace)],
        run="r",
        workspace=workspace,
    )
    champion = Ledger(NAME, workspace.settings).champion()
    assert champion is not None
    return champion


def _train(model: str, arrays: ArraysRef, epochs: int, workspace: Workspace) -> ModelRef:
    configure_backend("cpu")
    from digits.models import MODELS
    from digits.training.trainer import train_model

    settings = training_settings("reference", model, epochs=epochs)
    with workspace.store.create("models") as draft:
        num_parameters, seconds = train_model(
            workspace.store.folder(arrays),
            arrays,
            MODELS[model].build,
            settings,
            checkpoint=Checkpoint(workspace.settings.artifacts_dir / "checkpoint"),
            progress=Progress("train"),
            output=draft.path,
        )
    return ModelRef(
        digest=draft.digest,
        model=model,
        num_parameters=num_parameters,
        settings=settings,
        device="cpu",
        seconds=seconds,
    )


def _evaluate(model: ModelRef, arrays: ArraysRef, workspace: Workspace) -> EvaluationRef:
    from digits.training.evaluation import evaluate_model

    store = workspace.store
    with store.create("evaluations") as draft:
        metrics = evaluate_model(
            store.folder(model) / "model.keras", store.folder(arrays), arrays.layout, draft.path
        )
    return EvaluationRef(
        digest=draft.digest,
        model=model.model,
        model_digest=model.digest,
        test_digest=arrays.test_digest,
        num_parameters=model.num_parameters,
        num_images=metrics["num_images"],
        num_correct=metrics["num_correct"],
        accuracy=metrics["accuracy"],
        interval=metrics["interval"],
        loss=metrics["loss"],
    )
