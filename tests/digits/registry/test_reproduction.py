import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from digits.cache import keys
from digits.cache.keys import step_key
from digits.datasets.ingestion import ingest_dataset
from digits.datasets.normalization import store_arrays
from digits.datasets.sources.content import content_of
from digits.errors import DamagedError, DigitsError, UsageError
from digits.models import MODELS, Model, Shape
from digits.recipes import training_settings
from digits.registry.garbage import runs_lock
from digits.registry.ledger import ModelVersion
from digits.registry.promotion import decide
from digits.registry.promotion_rule import Rule
from digits.registry.reproduction import reproduce
from digits.settings import Settings
from digits.spec import load_spec
from digits.storage.lineage import LineageRef, LineageStep, read_lineage, trace
from digits.storage.locks import is_free
from digits.storage.references import ModelRef, Reference
from digits.storage.store import Store
from digits.storage.workspace import Workspace
from digits.training.devices import configure_backend, device_for_one
from digits.training.processors import processor
from tests.support.histories import store_form, store_score
from tests.support.small_dataset import NAME, write_raw, write_small_dataset

MODULE = "digits.registry.reproduction"

SETTINGS = training_settings("reference", "mlp", epochs=1)


class Trained:
    """A workspace with an MLP, trained for one epoch, as version 1."""

    def __init__(self, root: Path) -> None:
        settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
        write_small_dataset(settings)
        self.workspace = Workspace(settings)
        spec = load_spec(NAME, settings)
        content = content_of(spec, settings)
        dataset = ingest_dataset(spec.layout, content, spec.read_options, spec, self.workspace)
        self.arrays = store_arrays(dataset, self.workspace.store)
        self._record("normalize", {"dataset": dataset}, self.arrays)
        arguments = {
            "arrays": self.arrays,
            "model": "mlp",
            "settings": SETTINGS,
            "device": "cpu",
        }
        model = self._record("train", arguments, self._train())
        assert isinstance(model, ModelRef)
        score = store_score(self.workspace, model, range(5))
        decision = decide(
            dataset,
            [(model, score)],
            None,
            rule=Rule(floor=0),
            lineage=trace([model], self.workspace.records),
            forms=[store_form(self.workspace, model)],
            run="a run",
            workspace=self.workspace,
        )
        assert decision is not None
        assert decision.entry.version is not None
        self.version: ModelVersion = decision.entry.version

    def _train(self) -> ModelRef:
        configure_backend("cpu")
        from digits.progress import Progress
        from digits.training.checkpoints import Checkpoint
        from digits.training.trainer import train_model

        with self.workspace.store.create("models") as draft:
            num_parameters, seconds = train_model(
                self.workspace.store.folder(self.arrays),
                self.arrays,
                MODELS["mlp"].build,
                SETTINGS,
                checkpoint=Checkpoint(draft.path.with_name("checkpoint")),
                progress=Progress("train mlp"),
                output=draft.path,
            )
        return ModelRef(
            digest=draft.digest,
            model="mlp",
            num_parameters=num_parameters,
            settings=SETTINGS,
            device="cpu",
            seconds=seconds,
        )

    def _record(self, name: str, arguments: dict[str, object], made: Reference) -> Reference:
        key = step_key(name, arguments)
        made = made.model_copy(update={"made_by": key.digest})
        self.workspace.records.write(
            key, made, run_id="0", run_name="a run", processor=processor(), variables={}
        )
        return made


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(original: Trained, tmp_path: Path) -> Trained:
    """A separate copy for each test."""
    root = original.workspace.settings.data_dir.parent
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    trained = copy.copy(original)
    trained.workspace = Workspace(
        Settings(data_dir=tmp_path / "data", artifacts_dir=tmp_path / "artifacts")
    )
    return trained


def test_the_same_data_code_and_settings_give_the_same_bytes(trained: Trained) -> None:
    before = files(trained.workspace)

    outcome = reproduce(NAME, 1, trained.workspace)

    assert outcome.is_same
    assert outcome.recorded == outcome.reproduced == trained.version.model.digest
    assert (outcome.version, outcome.differences) == (1, ())
    assert files(trained.workspace) == before


def files(workspace: Workspace) -> dict[Path, bytes]:
    """The files of cache, ledger, models and checkpoints, none of which may change."""
    folder = workspace.settings.artifacts_dir
    parts = ("cache", "ledger", "models", "checkpoints")
    return {
        path: path.read_bytes()
        for part in parts
        for path in (folder / part).rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_missing_model_is_restored(trained: Trained) -> None:
    model = trained.version.model
    (trained.workspace.store.folder(model) / "model.keras").unlink()

    assert reproduce(NAME, 1, trained.workspace).is_same

    trained.workspace.store.verify(model)


def test_corrupted_arrays_are_rebuilt(trained: Trained) -> None:
    path = trained.workspace.store.folder(trained.arrays) / "y_train.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    assert reproduce(NAME, 1, trained.workspace).is_same

    trained.workspace.store.verify(trained.arrays)


def test_a_different_outcome_is_reported_with_what_has_changed(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_other(shape: Shape, classes: int, dropout: tuple[float, ...], seed: int) -> Any:
        return MODELS["mlp"].build(shape, classes, dropout, seed + 1)

    other = Model(build_other, MODELS["mlp"].settings)
    monkeypatch.setattr(f"{MODULE}.MODELS", {"mlp": other})
    versions = {"keras": "99"}
    monkeypatch.setattr(keys, "_version", lambda name: versions.get(name, "1"))

    outcome = reproduce(NAME, 1, trained.workspace)

    assert not outcome.is_same
    assert outcome.recorded == trained.version.model.digest != outcome.reproduced
    assert any(text.startswith("keras ") and text.endswith("-> 99") for text in outcome.differences)


def test_a_different_processor_is_reported(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}._train_again", lambda *_: trained.version.model.digest)
    then = processor()
    monkeypatch.setattr("digits.cache.differences.processor", lambda: "another, 64 cores")

    outcome = reproduce(NAME, 1, trained.workspace)

    assert outcome.differences == (f"processor {then} -> another, 64 cores",)


def test_variables_that_change_bits_are_reported(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}._train_again", lambda *_: trained.version.model.digest)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")

    outcome = reproduce(NAME, 1, trained.workspace)

    assert outcome.differences == (
        "TF_ENABLE_ONEDNN_OPTS none -> 0",
        "TF_NUM_INTRAOP_THREADS none -> 1",
    )


def test_a_precision_that_cannot_be_computed_here_is_refused(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(precision: str, device: str) -> None:
        raise UsageError(f"{precision} on {device}")

    monkeypatch.setattr(f"{MODULE}.check_precision", refuse)

    with pytest.raises(UsageError, match="float32 on cpu"):
        reproduce(NAME, 1, trained.workspace)


def test_a_version_without_a_recorded_processor_reports_no_difference(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}._train_again", lambda *_: trained.version.model.digest)
    monkeypatch.setattr("digits.registry.reproduction.read_lineage", without_processors)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")

    assert reproduce(NAME, 1, trained.workspace).differences == ()


def without_processors(digest: str, store: Store) -> dict[str, LineageStep]:
    """A lineage in the older form, without processors and variables."""
    steps = read_lineage(digest, store).items()
    return {label: LineageStep(key=step.key, output=step.output) for label, step in steps}


def test_changed_data_is_reported(trained: Trained) -> None:
    labels = trained.workspace.settings.raw_dir / NAME / "train-labels.idx"
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    write_raw(trained.workspace.settings, "train-labels", bytes(content))
    (trained.workspace.store.folder(trained.arrays) / "y_train.npy").unlink()

    with pytest.raises(DigitsError, match="cannot reproduce version 1: its data has changed"):
        reproduce(NAME, 1, trained.workspace)


def test_changed_data_does_not_matter_while_the_arrays_exist(
    trained: Trained,
) -> None:
    write_raw(trained.workspace.settings, "train-labels", b"not even labels")

    assert reproduce(NAME, 1, trained.workspace).is_same


def test_an_unknown_version_is_reported(trained: Trained) -> None:
    with pytest.raises(UsageError, match=r"has no version 2 \(versions: 1\)"):
        reproduce(NAME, 2, trained.workspace)


def test_a_removed_model_is_reported(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.MODELS", {"cnn": MODELS["cnn"]})

    with pytest.raises(DigitsError, match=r"unknown model 'mlp' \(known: cnn\)"):
        reproduce(NAME, 1, trained.workspace)


def test_a_corrupted_lineage_is_reported(trained: Trained) -> None:
    lineage = LineageRef(digest=trained.version.lineage)
    (trained.workspace.store.folder(lineage) / "lineage.json").write_text("{}")

    with pytest.raises(DamagedError, match=r"lineage\.json has 2 bytes"):
        reproduce(NAME, 1, trained.workspace)


def test_garbage_collection_waits_for_a_reproduction(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def watched(*_: object) -> str:
        held.append(not is_free(runs_lock(trained.workspace)))
        return trained.version.model.digest

    monkeypatch.setattr("digits.registry.reproduction._train_again", watched)

    assert reproduce(NAME, 1, trained.workspace).is_same
    assert held == [True]
    assert is_free(runs_lock(trained.workspace))


def test_a_gpu_is_never_shared_by_two_trainings(settings: Settings) -> None:
    lock = settings.artifacts_dir / "locks" / "gpu.lock"

    with device_for_one("gpu:NVIDIA H100", settings, "waiting"):
        assert not is_free(lock)
    with device_for_one("cpu", settings, "waiting"):
        assert is_free(lock)
