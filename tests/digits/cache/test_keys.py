import sys
from importlib.metadata import version
from typing import Any

import pytest

from digits.cache import codebase, keys
from digits.cache.fingerprint import Project
from digits.cache.keys import STEPS, find_code, step_key, step_label
from digits.layouts import LAYOUTS
from digits.recipes import training_settings
from digits.settings import ROOT
from digits.spec import ReadOptions
from digits.storage.records import RESULTS, StepKey
from digits.storage.references import ArraysRef
from digits.storage.workspace import Workspace
from digits.training.devices import CUDA_PACKAGES
from tests.support.histories import NUM_IMAGES, digest, make_model, make_score
from tests.support.small_dataset import small_layout

ARRAYS = ArraysRef(
    digest=digest("arrays"),
    layout=small_layout(),
    num_train=600,
    num_test=NUM_IMAGES,
    test_digest=digest("test"),
)


def train_key(model: str = "cnn", device: str = "cpu", **changes: Any) -> StepKey:
    arguments = {
        "arrays": ARRAYS,
        "model": model,
        "settings": training_settings("reference", model),
        "device": device,
    }
    return step_key("train", arguments | changes)


def labels(key: StepKey) -> set[str]:
    return {label.partition(": ")[2] for label in key.code}


def test_no_source_is_parsed_during_training(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Project(ROOT)
    monkeypatch.setattr(keys, "project", lambda: fresh)
    # The workspace is empty, so no fingerprints are cached from an earlier run.
    find_code(["mlp", "cnn"], ReadOptions())

    def refuse(*_: Any) -> None:
        raise AssertionError("a training thread may be building a syntax tree now")

    monkeypatch.setattr(codebase, "Module", refuse)
    for model in ("mlp", "cnn"):
        assert train_key(model).code
    assert step_key("evaluate", {"arrays": ARRAYS}).code
    assert step_key("report", {"arrays": ARRAYS}).code


def test_equal_calls_have_equal_keys() -> None:
    assert train_key() == train_key()
    assert train_key().digest == train_key().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": ARRAYS.model_copy(update={"digest": digest("other arrays")})},
        {"model": "mlp"},
        {"settings": training_settings("reference", "cnn", epochs=3)},
        {"settings": training_settings("reference", "cnn", seed=1)},
        {"device": "gpu:NVIDIA H100"},
    ],
)
def test_each_argument_counts(changes: dict[str, Any]) -> None:
    assert train_key(**changes).digest != train_key().digest


def test_a_variable_that_selects_another_arithmetic_counts_where_models_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = [train_key(), step_key("evaluate", {"arrays": ARRAYS}), ingest_key()]
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert train_key() == plain[0]

    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    train, evaluate, ingest = train_key(), step_key("evaluate", {"arrays": ARRAYS}), ingest_key()

    assert train.variables == evaluate.variables == {"TF_ENABLE_ONEDNN_OPTS": "0"}
    assert train.digest != plain[0].digest
    assert evaluate.digest != plain[1].digest
    assert ingest == plain[2]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "")
    assert train_key() == plain[0]


def test_the_run_that_made_an_input_does_not_count() -> None:
    elsewhere = ARRAYS.model_copy(update={"made_by": digest("another key")})

    assert train_key(arrays=elsewhere) == train_key()


def test_inputs_are_described_by_their_content() -> None:
    assert train_key().inputs == {
        "arrays": ARRAYS.digest,
        "device": "cpu",
        "model": "cnn",
        "settings": training_settings("reference", "cnn").model_dump(mode="json"),
    }


def test_the_sources_of_the_data_do_not_count() -> None:
    arguments = {"layout": small_layout(), "content": {"train-images": digest("images")}}
    keys = {step_key("ingest", arguments | {"sources": where}).digest for where in ("a", "b")}

    assert len(keys) == 1
    assert step_key("ingest", arguments | {"content": {}}).digest not in keys


INGEST = {"layout": small_layout(), "content": {"x": digest("x")}}


def ingest_key(**read_options: Any) -> StepKey:
    return step_key(
        "ingest", INGEST | {"read_options": ReadOptions(**read_options), "sources": None}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"file_layout": "npz"},
        {"pixel_range": (0, 16)},
        {"test_share": 0.2},
        {"label_column": -1},
        {"severity": {"label_unknown": "warning"}},
    ],
)
def test_read_options_count(changes: dict[str, Any]) -> None:
    assert ingest_key(**changes).digest != ingest_key().digest


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ingestion_depends_only_on_the_reader_of_its_own_layout(layout: str) -> None:
    reached = {label.partition(": ")[0] for label in ingest_key(file_layout=layout).code}

    readers = {name: str(one.reader).partition(":")[0] for name, one in LAYOUTS.items()}
    modules = {name: f"{module.replace('.', '/')}.py" for name, module in readers.items()}
    assert reached & set(modules.values()) == {modules[layout]}
    assert "digits/datasets/formats/cleaning.py" in reached


def test_lists_of_references_are_described_one_by_one() -> None:
    model = make_model()
    score = make_score(model, 90)

    inputs = step_key("report", {"scored": [(model, score)], "rival": None}).inputs

    assert inputs == {"scored": [[model.digest, score.digest]], "rival": None}


@pytest.mark.parametrize(("model", "other"), [("cnn", "mlp"), ("mlp", "cnn")])
def test_a_training_depends_only_on_its_own_model(model: str, other: str) -> None:
    reached = labels(train_key(model))

    assert f"build_{model}" in reached
    assert f"build_{other}" not in reached
    assert "train_model" in reached


@pytest.mark.parametrize("name", STEPS)
def test_a_step_depends_only_on_its_own_task(name: str) -> None:
    reached = {
        label for label in step_key(name, {"model": "cnn"}).code if label.startswith("tasks/")
    }

    assert f"tasks/{name}.py: {name}" in reached
    assert not any(f"tasks/{other}.py: {other}" in reached for other in set(STEPS) - {name})


def test_the_libraries_that_affect_the_output_count() -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"

    assert step_key("normalize", {}).libraries == {"python": python, "numpy": version("numpy")}
    assert set(train_key().libraries) == {"python", "keras", "numpy", "tensorflow"}


def test_the_backend_counts_if_keras_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    assert set(train_key().libraries) == {"python", "keras", "numpy", "jax"}
    assert set(step_key("normalize", {}).libraries) == {"python", "numpy"}


def test_gpu_libraries_count_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    name = CUDA_PACKAGES["tensorflow"][0]
    installed = {name: "9.10", "keras": "3", "numpy": "2", "tensorflow": "2.21"}
    monkeypatch.setattr(keys, "_version", installed.get)

    assert train_key(device="gpu:NVIDIA H100").libraries[name] == "9.10"
    assert name not in train_key(device="cpu").libraries
    assert name not in step_key("normalize", {}).libraries


def test_another_library_version_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = train_key()
    monkeypatch.setattr(keys, "_version", lambda name: "99" if name == "keras" else version(name))

    assert train_key().digest != before.digest


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("normalize", {}),
        ("train", {"model": "cnn"}),
        ("evaluate", {"model": make_model()}),
    ],
)
def test_a_step_has_the_label_of_its_record(
    workspace: Workspace, name: str, arguments: dict[str, Any]
) -> None:
    made = {"normalize": ARRAYS, "train": make_model(), "evaluate": make_score(make_model(), 1)}
    key = step_key(name, arguments)
    workspace.records.write(key, made[name], run_id="0", run_name="a run")

    record = workspace.records.read(key.digest)

    assert record is not None
    assert record.label == step_label(name, arguments)


def test_every_step_has_a_result() -> None:
    assert STEPS.keys() == RESULTS.keys()
