import pytest

from digits.errors import DamagedError
from digits.storage.lineage import LineageRef, LineageStep, read_lineage, trace, write_lineage
from digits.storage.records import StepKey
from digits.storage.references import ModelRef, ReportRef
from digits.storage.store import Store
from digits.storage.workspace import Workspace
from tests.support.histories import digest, make_model, store_model

PROCESSOR = "a processor, 2 cores"


def key(step: str, **inputs: str) -> StepKey:
    return StepKey(
        step=step,
        inputs=inputs,
        code={"digits/training/models.py: build_cnn": digest("code")},
        libraries={"python": "3.11", "keras": "3.15.1"},
    )


STEPS = {
    "train cnn": LineageStep(key=key("train", arrays=digest("arrays")), output=digest("cnn")),
    "normalize": LineageStep(key=key("normalize"), output=digest("arrays")),
}


def record(workspace: Workspace, text: str, model: str) -> ModelRef:
    """Store a model and record the step that made it."""
    made_under = key("train", model=model, text=text)
    reference = store_model(workspace, text, model)
    reference = reference.model_copy(update={"made_by": made_under.digest})
    workspace.records.write(
        made_under, reference, run_id="0-1", run_name="a run", processor=PROCESSOR
    )
    return reference


def store_file(store: Store, content: bytes, name: str = "lineage.json") -> str:
    with store.create("lineages") as draft:
        (draft.path / name).write_bytes(content)
    return draft.digest


def test_a_lineage_is_read_back_unchanged(workspace: Workspace) -> None:
    assert read_lineage(write_lineage(STEPS, workspace.store), workspace.store) == STEPS


def test_equal_lineages_are_stored_once(workspace: Workspace) -> None:
    other_order = dict(reversed(STEPS.items()))

    first, second = (write_lineage(steps, workspace.store) for steps in (STEPS, other_order))

    assert first == second


def test_a_trace_contains_key_output_and_processor_of_each_step(workspace: Workspace) -> None:
    models = [record(workspace, text, text) for text in ("mlp", "cnn")]

    assert trace(models, workspace.records) == {
        f"train {model.model}": LineageStep(
            key=key("train", model=model.model, text=model.model),
            output=model.digest,
            processor=PROCESSOR,
        )
        for model in models
    }


def test_a_step_without_a_valid_record_is_omitted(workspace: Workspace) -> None:
    whole, damaged = record(workspace, "mlp", "mlp"), record(workspace, "cnn", "cnn")
    workspace.records.path(damaged.made_by).write_bytes(b"{}")
    unrecorded, outside_a_run = make_model(), ReportRef(digest=digest("page"))

    steps = trace([whole, damaged, unrecorded, outside_a_run], workspace.records)

    assert list(steps) == ["train mlp"]


@pytest.mark.faults
def test_a_corrupted_lineage_is_refused(workspace: Workspace) -> None:
    written = write_lineage(STEPS, workspace.store)
    path = workspace.store.folder(LineageRef(digest=written)) / "lineage.json"
    path.write_bytes(path.read_bytes().replace(b"3.11", b"3.12"))

    with pytest.raises(DamagedError, match=r"lineage\.json is corrupted"):
        read_lineage(written, workspace.store)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'{"train cnn": 1}',
        b'{"train cnn": {"output": "0"}}',
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b"\xff",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_malformed_file_is_reported_as_damage(workspace: Workspace, content: bytes) -> None:
    written = store_file(workspace.store, content)

    with pytest.raises(DamagedError, match=r"lineage\.json is not a valid lineage"):
        read_lineage(written, workspace.store)


def test_a_bundle_without_the_file_is_reported_as_damage(workspace: Workspace) -> None:
    written = store_file(workspace.store, b"{}", name="other.json")

    with pytest.raises(DamagedError, match=r"lineage\.json cannot be read"):
        read_lineage(written, workspace.store)
