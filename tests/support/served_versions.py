"""Versions with small ONNX models, made up in milliseconds: each gives its own answers."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from digits.registry.ledger import Entry, Ledger, ModelVersion, Verdict
from digits.registry.onnx_files import FILE, INPUT, OUTPUT
from digits.settings import Settings
from digits.storage.references import EvaluationRef, ModelRef, OnnxRef
from digits.storage.workspace import Workspace
from tests.support.handwriting import NUM_CLASSES, SHAPE
from tests.support.histories import NUM_IMAGES, digest, make_model, make_score
from tests.support.small_dataset import NAME, SPEC, write_spec


def onnx_bytes(favored: int, *, strength: float = 3.0, shape: tuple[int, int] = SHAPE) -> bytes:
    """Return a model that gives every image the label `favored`, the more so the more ink it has.

    Its probabilities identify it: no other `favored` and `strength` give the same.
    """
    num_pixels = int(np.prod(shape))
    weights = np.zeros((num_pixels, NUM_CLASSES), np.float32)
    weights[:, favored] = 1 / num_pixels
    bias = np.zeros(NUM_CLASSES, np.float32)
    bias[favored] = strength
    nodes = [
        helper.make_node("Flatten", [INPUT], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "made up",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *shape, 1])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", NUM_CLASSES])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


def write_served_dataset(settings: Settings, name: str = NAME) -> None:
    """Write the spec of the small dataset, without its data."""
    write_spec(settings, SPEC, name)


def promote_version(
    settings: Settings,
    favored: int,
    dataset: str = NAME,
    *,
    has_forms: bool = True,
    corrupt: bool = False,
    shape: tuple[int, int] = SHAPE,
) -> Entry:
    """Promote a new version that gives every image the label `favored`.

    Another model of its run gives the label after that one. `corrupt`: its ONNX form has a byte too
    many.
    """
    workspace = Workspace(settings)
    with Ledger(dataset, settings).deciding() as ledger:
        number = 1 + sum(entry.version is not None for entry in ledger.entries)
        text = f"{dataset} {number} {favored}"
        model = _stored_model(workspace, text, "cnn")
        score = _stored_score(workspace, model)
        forms = [
            _stored_form(workspace, model, onnx_bytes(favored, shape=shape)),
            _stored_form(
                workspace,
                make_model(f"{text} mlp", "mlp"),
                onnx_bytes((favored + 1) % NUM_CLASSES, shape=shape),
            ),
        ]
        if corrupt:
            path = workspace.store.folder(forms[0]) / FILE
            path.write_bytes(path.read_bytes() + b"?")
        before = ledger.champion
        verdict = Verdict(
            outcome="promoted",
            reason="it was better",
            rule="the better one",
            candidate=model.model,
            candidate_digest=model.digest,
            candidate_accuracy=score.accuracy,
            champion_before=before.number if before else None,
            champion_after=number,
        )
        return ledger.append(
            verdict,
            run=f"run {number}",
            data_digest=digest("d"),
            version=ModelVersion(
                number=number, model=model, evaluation=score, lineage=digest(f"lineage {text}")
            ),
            forms=forms if has_forms else (),
        )


def _stored_model(workspace: Workspace, text: str, model: str) -> ModelRef:
    with workspace.store.create("models") as draft:
        (draft.path / "model.keras").write_text(text)
    return make_model(text, model).model_copy(update={"digest": draft.digest})


def _stored_score(workspace: Workspace, model: ModelRef) -> EvaluationRef:
    with workspace.store.create("evaluations") as draft:
        (draft.path / "metrics.json").write_text(json.dumps({"model": model.digest}))
    return make_score(model, 90).model_copy(update={"digest": draft.digest})


def _stored_form(workspace: Workspace, model: ModelRef, network: bytes) -> OnnxRef:
    with workspace.store.create("onnx") as draft:
        # The digest of the model makes the bundle its own.
        content = onnx.load_model_from_string(network)
        content.doc_string = model.digest
        (draft.path / FILE).write_bytes(content.SerializeToString())
    return OnnxRef(
        digest=draft.digest,
        model=model.model,
        model_digest=model.digest,
        num_images=NUM_IMAGES,
        num_correct=90,
    )
