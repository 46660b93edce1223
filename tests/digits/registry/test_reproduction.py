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
from digits.registry.promotion import Rule, decide
from digits.registry.reproduction import reproduce
from digits.settings import Settings
from digits.spec import load_spec
from digits.storage.lineage import LineageRef, LineageStep, read_lineage, trace
from digits.storage.locks import is_free
from digits.storage.references import ModelRef, Reference
from digits.storage.store import Store
from digits.storage.workspace import Workspace
from digits.training.devices import configure_backend, device_for_one, processor
from tests.support.histories import store_score
from tests.support.small_dataset import NAME, write_raw, write_small_dataset

MODULE = "digits.registry.reproduction"

SETTINGS = training_settings("reference", "mlp", epochs=1)


class Trained:
    """A workspace in which an MLP was trained for an epoch and became version 1."""

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
        self.workspace.records.write(key, made, run_id="0", run_name="a run", processor=processor())
        return made


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(original: Trained, tmp_path: Path) -> Trained:
    """A copy of its own for each test."""
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
    """All that a run could believe: neither cache nor ledger may change."""
    folder = workspace.settings.artifacts_dir
    parts = ("cache", "ledger", "models", "checkpoints")
    return {
        path: path.read_bytes()
        for part in parts
        for path in (folder / part).rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_model_that_was_lost_comes_back(trained: Trained) -> None:
    model = trained.version.model
    (trained.workspace.store.folder(model) / "model.keras").unlink()

    assert reproduce(NAME, 1, trained.workspace).is_same

    trained.workspace.store.verify(model)


def test_arrays_that_are_gone_or_damaged_are_made_again(trained: Trained) -> None:
    path = trained.workspace.store.folder(trained.arrays) / "y_train.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    assert reproduce(NAME, 1, trained.workspace).is_same

    trained.workspace.store.verify(trained.arrays)


def test_another_outcome_is_told_with_what_differs(
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


def test_another_processor_is_told(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._train_again", lambda *_: trained.version.model.digest)
    then = processor()
    monkeypatch.setattr("digits.registry.reproduction.processor", lambda: "another, 64 cores")

    outcome = reproduce(NAME, 1, trained.workspace)

    assert outcome.differences == (f"processor {then} -> another, 64 cores",)


def test_a_version_from_before_processors_were_kept_differs_in_none(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}._train_again", lambda *_: trained.version.model.digest)
    monkeypatch.setattr("digits.registry.reproduction.read_lineage", without_processors)

    assert reproduce(NAME, 1, trained.workspace).differences == ()


def without_processors(digest: str, store: Store) -> dict[str, LineageStep]:
    """A lineage as it was written before."""
    steps = read_lineage(digest, store).items()
    return {label: LineageStep(key=step.key, output=step.output) for label, step in steps}


def test_data_that_has_changed_is_told(trained: Trained) -> None:
    labels = trained.workspace.settings.raw_dir / NAME / "train-labels.idx"
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    write_raw(trained.workspace.settings, "train-labels", bytes(content))
    (trained.workspace.store.folder(trained.arrays) / "y_train.npy").unlink()

    with pytest.raises(DigitsError, match="its data has changed, so the same weights cannot"):
        reproduce(NAME, 1, trained.workspace)


def test_data_that_has_changed_does_not_matter_while_the_arrays_are_there(
    trained: Trained,
) -> None:
    write_raw(trained.workspace.settings, "train-labels", b"not even labels")

    assert reproduce(NAME, 1, trained.workspace).is_same


def test_an_unknown_version_is_told(trained: Trained) -> None:
    with pytest.raises(UsageError, match="has no version 2: there is 1"):
        reproduce(NAME, 2, trained.workspace)


def test_a_model_that_there_is_no_more_is_told(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}.MODELS", {"cnn": MODELS["cnn"]})

    with pytest.raises(DigitsError, match="there is no model 'mlp' any more, only cnn"):
        reproduce(NAME, 1, trained.workspace)


def test_a_damaged_lineage_is_told(trained: Trained) -> None:
    lineage = LineageRef(digest=trained.version.lineage)
    (trained.workspace.store.folder(lineage) / "lineage.json").write_text("{}")

    with pytest.raises(DamagedError, match=r"lineage\.json has 2 bytes"):
        reproduce(NAME, 1, trained.workspace)


def test_nothing_is_collected_meanwhile(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
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
