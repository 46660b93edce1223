"""Evaluate: score one model on the test set."""

from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.storage.workspace import current_workspace
from digits.training.devices import configure_backend
from tasks.caching import step


@step("evaluate")
def evaluate(model: ModelRef, arrays: ArraysRef, device: str) -> EvaluationRef:
    """Store the model's metrics and its predictions on every test image."""
    configure_backend(device)
    from digits.training.evaluation import evaluate_model

    store = current_workspace().store
    with store.create("evaluations") as draft:
        metrics = evaluate_model(
            store.folder(model) / "model.keras", store.folder(arrays), arrays.layout, draft.path
        )
    return EvaluationRef(
        digest=draft.digest,
        model=model.model,
        model_digest=model.digest,
        test_digest=arrays.test_digest,
        num_parameters=metrics["num_parameters"],
        num_images=metrics["num_images"],
        num_correct=metrics["num_correct"],
        accuracy=metrics["accuracy"],
        interval=metrics["interval"],
        loss=metrics["loss"],
    )
