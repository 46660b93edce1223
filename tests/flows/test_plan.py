import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from digits.cache import keys
from digits.cache.fingerprint import Project
from digits.cache.keys import step_key
from digits.datasets.growth import Growth
from digits.datasets.sources.content import content_of
from digits.datasets.versions import DatasetVersions
from digits.intake.incoming import incoming_folder
from digits.recipes import training_settings
from digits.registry.history import roll_back
from digits.registry.ledger import Ledger
from digits.registry.promotion import decide, models_to_convert
from digits.registry.promotion_rule import Rule
from digits.settings import ROOT, Settings
from digits.spec import load_spec
from digits.storage.bundles import MANIFEST
from digits.storage.lineage import trace
from digits.storage.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    Kind,
    ModelRef,
    OnnxRef,
    Reference,
    ReportRef,
    ValidationRef,
)
from digits.storage.workspace import Workspace
from digits.training.precisions import Fastest
from flows.pipeline import Request
from flows.plan import PlannedStep, plan_run
from tests.support.histories import NUM_IMAGES, digest, store_form, store_score
from tests.support.small_dataset import NAME, SPEC, write_raw, write_spec

CACHED = {"stay cached"}


@dataclass
class Code:
    """A fake project in which each step depends on its task, and a training on its model."""

    texts: dict[str, str] = field(default_factory=dict)

    def code_of(self, _: object, roots: Iterable[str], without: object) -> dict[str, str]:  # noqa: ARG002
        places = {root.replace(".", "/").replace(":", ".py: ") for root in roots}
        return {place: digest(self.texts.get(place, place)) for place in sorted(places)}


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Code:
    code = Code()
    monkeypatch.setattr(keys, "_code_of", code.code_of)
    return code


@pytest.fixture
def workspace(small_dataset: Settings, code: Code) -> Workspace:  # noqa: ARG001
    return Workspace(small_dataset)


class Run:
    """Writes what a run leaves: for each step, a bundle and a record with its real key."""

    def __init__(self, workspace: Workspace, name: str = NAME, wrong: int = 20) -> None:
        self.workspace = workspace
        self.spec = load_spec(name, workspace.settings)
        self.wrong = wrong
        self.made: dict[str, Reference] = {}

    def record(self, label: str, arguments: dict[str, Any], made: Reference) -> Any:
        key = step_key(label.partition(" ")[0], arguments)
        made = made.model_copy(update={"made_by": key.digest})
        self.workspace.records.write(key, made, run_id="0", run_name="a run", variables={})
        self.made[label] = made
        return made

    def store(self, kind: Kind, text: str) -> str:
        with self.workspace.store.create(kind) as draft:
            (draft.path / "content").write_text(f"{kind} {text}")
        return draft.digest

    def prepare(self) -> tuple[DatasetRef, ValidationRef, ArraysRef]:
        spec, content = self.spec, content_of(self.spec, self.workspace.settings)
        test_digest = digest(str(content["test-images"]))
        facts = {"layout": spec.layout, "num_train": 600, "num_test": NUM_IMAGES}
        dataset = DatasetRef(
            digest=self.store("datasets", str(content)),
            content_digest=digest(str(content)),
            test_digest=test_digest,
            **facts,
        )
        validation = ValidationRef(
            digest=self.store("validations", str(content)), num_expectations=1
        )
        arrays = ArraysRef(
            digest=self.store("arrays", str(content)), test_digest=test_digest, **facts
        )
        version = DatasetVersions(spec.name, self.workspace.settings).current()
        arguments = {"layout": spec.layout, "content": content, "read_options": spec.read_options}
        dataset = self.record("ingest", arguments | {"batches": version.content}, dataset)
        arguments = {"dataset": dataset, "thresholds": spec.thresholds, "growth": version.growth}
        validation = self.record("validate", arguments, validation)
        return dataset, validation, self.record("normalize", {"dataset": dataset}, arrays)

    def run(self) -> None:
        spec = self.spec
        dataset, validation, arrays = self.prepare()
        scored = [self.train(model, arrays) for model in ("mlp", "cnn")]
        lineage = trace(self.made.values(), self.workspace.records)
        champion = Ledger(spec.name, self.workspace.settings).champion()
        incumbent, rule = champion.evaluation if champion else None, Rule(floor=0)
        due = models_to_convert(spec.name, scored, incumbent, rule=rule, workspace=self.workspace)
        decision = decide(
            dataset,
            scored,
            incumbent,
            rule=rule,
            lineage=lineage,
            forms=[self.convert(model, arrays) for model in due],
            run="a run",
            workspace=self.workspace,
        )
        assert decision is not None
        arguments = {
            "title": spec.title,
            "validation": validation,
            "arrays": arrays,
            "scored": scored,
            "verdict": decision.standing,
            "rival": decision.rival,
            "lineage": lineage,
        }
        page = self.store("reports", str(len(self.made)))
        self.record("report", arguments, ReportRef(digest=page))

    def convert(self, model: ModelRef, arrays: ArraysRef) -> OnnxRef:
        arguments = {"model": model, "arrays": arrays, "device": "cpu"}
        form = store_form(self.workspace, model)
        made: OnnxRef = self.record(f"convert {model.model}", arguments, form)
        return made

    def train(self, model: str, arrays: ArraysRef) -> tuple[ModelRef, EvaluationRef]:
        settings = training_settings("reference", model)
        trained = ModelRef(
            digest=self.store("models", f"{model} {self.wrong} {arrays.digest}"),
            model=model,
            num_parameters=len(model),
            settings=settings,
            device="cpu",
            seconds=1.0,
        )
        arguments = {"arrays": arrays, "model": model, "settings": settings, "device": "cpu"}
        trained = self.record(f"train {model}", arguments, trained)
        score = store_score(self.workspace, trained, range(self.wrong - (model == "cnn")))
        score = score.model_copy(update={"test_digest": arrays.test_digest})
        arguments = {"model": trained, "arrays": arrays, "device": "cpu"}
        return trained, self.record(f"evaluate {model}", arguments, score)


def plan(workspace: Workspace, name: str = NAME, **options: Any) -> dict[str, PlannedStep]:
    request: dict[str, Any] = {
        "models": ["mlp", "cnn"],
        "recipe": "reference",
        "epochs": None,
        "seed": 0,
        "device": "cpu",
    }
    asked = Request.of(name, settings=workspace.settings, **request | options)
    return {step.step: step for step in plan_run(asked, workspace)}


def running(planned: dict[str, PlannedStep]) -> dict[str, str]:
    """Return the reason of each step that would run, except promotion."""
    return {
        label: step.reason
        for label, step in planned.items()
        if step.would == "run" and label != "promote"
    }


def would(planned: dict[str, PlannedStep], *labels: str) -> set[str]:
    return {planned[label].would for label in labels}


@pytest.fixture
def done(workspace: Workspace) -> Run:
    """A run that promoted its cnn."""
    run = Run(workspace)
    run.run()
    return run


ALL = [
    "ingest",
    "validate",
    "normalize",
    "train mlp",
    "evaluate mlp",
    "train cnn",
    "evaluate cnn",
    "promote",
    "report",
]
CONVERSIONS = ["convert mlp", "convert cnn"]


def test_before_the_first_run_only_the_first_step_is_certain(workspace: Workspace) -> None:
    planned = plan(workspace)

    assert list(planned) == [*ALL[:-2], *CONVERSIONS, *ALL[-2:]]
    assert running(planned) == {"ingest": "it never ran"}
    assert would(planned, *set(planned) - {"ingest", "promote"}) == {"depend"}
    assert planned["normalize"].reason == (
        "a step before it would run; equal output keeps it cached"
    )


def test_after_a_run_everything_but_the_decision_is_cached(done: Run) -> None:
    planned = plan(done.workspace)

    assert list(planned) == ALL
    assert running(planned) == {}
    assert would(planned, *set(ALL) - {"promote"}) == CACHED
    assert planned["promote"].reason == "the decision is about the present champion"


def test_models_are_converted_only_for_a_promotion(done: Run, code: Code) -> None:
    for name, wrong in (("better", 10), ("worse", 90)):
        code.texts["digits/models.py: MODELS[mlp]/builder"] = name
        code.texts["digits/models.py: MODELS[cnn]/builder"] = name
        run = Run(done.workspace, wrong=wrong)
        _, _, arrays = run.prepare()
        for model in ("mlp", "cnn"):
            run.train(model, arrays)

        planned = plan(done.workspace)

        due = [label for label in planned if label in CONVERSIONS]
        # The candidate's form comes first.
        assert due == (CONVERSIONS[::-1] if name == "better" else [])
        assert set(running(planned)) == set(due)


@pytest.mark.faults
def test_a_corrupted_form_of_the_champion_would_be_made_again(done: Run) -> None:
    path = done.workspace.store.folder(done.made["convert cnn"]) / "model.onnx"
    path.write_text("another model")

    reasons = running(plan(done.workspace))

    assert list(reasons) == ["convert cnn"]
    assert reasons["convert cnn"].startswith(f"{path} has 13 bytes")


def test_a_cached_step_names_its_origin(done: Run) -> None:
    planned = plan(done.workspace)

    record = done.workspace.records.read(done.made["ingest"].made_by)
    assert record is not None
    assert planned["ingest"].reason == f"made in a run, {record.created:%Y-%m-%d %H:%M}"
    assert planned["train cnn"].reason == planned["evaluate cnn"].reason == "made in v1"
    assert planned["train mlp"].reason.startswith("made in a run, ")


def test_changed_code_is_named_by_file_and_place(done: Run, code: Code) -> None:
    code.texts["digits/models.py: MODELS[cnn]/builder"] = "another text"

    planned = plan(done.workspace)

    assert running(planned) == {
        "train cnn": "digits/models.py: MODELS[cnn]/builder changed since v1"
    }
    assert would(planned, "evaluate cnn", "report") == {"depend"}
    assert would(planned, "train mlp", "evaluate mlp", "normalize") == CACHED


def test_an_upgraded_library_is_named(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys._version
    monkeypatch.setattr(keys, "_version", lambda name: "99" if name == "scipy" else before(name))

    planned = plan(done.workspace)

    version = before("scipy")
    assert running(planned)["evaluate cnn"] == f"scipy {version} -> 99 since v1"
    assert would(planned, "train mlp", "train cnn") == CACHED


def test_a_changed_setting_is_named(done: Run) -> None:
    planned = plan(done.workspace, epochs=3, seed=7)

    assert running(planned)["train cnn"] == (
        "settings.epochs 10 -> 3; settings.seed 0 -> 7 since v1"
    )
    assert would(planned, "ingest", "validate", "normalize") == CACHED


def test_another_device_is_named(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.pipeline.resolve_device", lambda _: "gpu:NVIDIA H100")

    planned = plan(done.workspace)

    assert running(planned)["train cnn"] == "device cpu -> gpu:NVIDIA H100 since v1"


def test_the_fastest_precision_is_that_of_the_device(
    done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fastest(device: str) -> Fastest:
        return Fastest("mixed_bfloat16" if device == "cpu" else "float32", "")

    monkeypatch.setattr("flows.pipeline.fastest_precision", fastest)

    planned = plan(done.workspace, recipe="fast")

    changed = "settings.masks drawn -> pooled; settings.precision float32 -> mixed_bfloat16"
    assert running(planned)["train cnn"] == f"{changed} since v1"
    planned = plan(done.workspace, recipe="fast", precision="float32")
    assert running(planned)["train cnn"] == "settings.masks drawn -> pooled since v1"


def test_variables_that_change_bits_are_named(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    planned = plan(done.workspace)

    assert planned["train cnn"].would == "stay cached"
    assert planned["train cnn"].reason == "made in v1; OMP_NUM_THREADS none -> 1"
    assert "OMP_NUM_THREADS" not in planned["ingest"].reason

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert running(plan(done.workspace))["train cnn"] == "ONEDNN_MAX_CPU_ISA none -> AVX2 since v1"


def test_changed_data_is_named(done: Run) -> None:
    path = done.workspace.settings.raw_dir / NAME / "train-labels.idx"
    before = content_of(done.spec, done.workspace.settings)["train-labels"]
    write_raw(done.workspace.settings, "train-labels", path.read_bytes()[:-1] + b"\0")
    after = content_of(done.spec, done.workspace.settings)["train-labels"]

    planned = plan(done.workspace)

    (reason,) = running(planned).values()
    assert reason.startswith(f"content.train-labels {before[:12]} -> {after[:12]} since a run, ")
    assert would(planned, *ALL[1:7]) == {"depend"}


def test_an_added_batch_is_named(done: Run) -> None:
    batch = digest("a batch")
    with DatasetVersions(NAME, done.workspace.settings).changing() as changing:
        changing.add(batch, manifest=batch, source="x", files={}, growth=Growth())

    reason = running(plan(done.workspace))["ingest"]

    assert f"batches.batch 0001 none -> {batch[:12]}" in reason


def test_incoming_batches_are_named_and_everything_depends_on_them(done: Run) -> None:
    folder = incoming_folder(NAME, done.workspace.settings)
    folder.mkdir(parents=True)
    for name in ("b.npz", "a.csv", ".hidden", "growing.csv.part"):
        (folder / name).touch()

    planned = plan(done.workspace)

    assert running(planned)["add incoming"] == f"in {folder}: a.csv, b.npz"
    assert would(planned, "ingest", "validate", "normalize", "train cnn") == {"depend"}
    assert len(list(folder.iterdir())) == 4


def test_a_changed_threshold_only_repeats_validation(done: Run) -> None:
    write_spec(done.workspace.settings, SPEC.replace("max_label_divergence = 0.1", ""))

    planned = plan(done.workspace)

    assert list(running(planned)) == ["validate"]
    assert running(planned)["validate"].startswith(
        "thresholds.max_label_divergence 0.1 -> none since a run, "
    )
    assert would(planned, "normalize", "train mlp", "train cnn") == CACHED
    assert would(planned, "report") == {"depend"}


def test_many_differences_are_summarized_and_listed(done: Run, code: Code) -> None:
    code.texts |= {
        "digits/models.py: MODELS[cnn]/builder": "another",
        "tasks/train.py: train": "another",
    }

    step = plan(done.workspace, epochs=3, seed=7)["train cnn"]

    assert step.reason == (
        "digits/models.py: MODELS[cnn]/builder changed; tasks/train.py: train changed; "
        "settings.epochs 10 -> 3; and 1 more since v1"
    )
    assert step.changes[-1] == "settings.seed 0 -> 7"


def alter(folder: Path) -> str:
    path = folder / "content"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return f"{path} is corrupted: its SHA-256 is "


def cut(folder: Path) -> str:
    (folder / "content").write_bytes(b"")
    return f"{folder / 'content'} has 0 bytes (expected "


def lose(folder: Path) -> str:
    shutil.rmtree(folder)
    return f"{folder / MANIFEST} cannot be read: No such file or directory"


@pytest.mark.faults
@pytest.mark.parametrize("damage", [alter, cut, lose])
@pytest.mark.parametrize("label", ["ingest", "normalize", "train mlp", "report"])
def test_a_corrupted_artifact_is_named(
    done: Run, damage: Callable[[Path], str], label: str
) -> None:
    start = damage(done.workspace.store.folder(done.made[label]))

    reasons = running(plan(done.workspace))

    assert list(reasons) == [label]
    assert reasons[label].startswith(start)


@pytest.mark.faults
def test_a_corrupted_record_is_named(done: Run) -> None:
    path = done.workspace.records.path(done.made["train cnn"].made_by)
    path.write_bytes(path.read_bytes().replace(b"a run", b"no run"))

    assert running(plan(done.workspace)) == {
        "train cnn": f"{path} is corrupted: its digest does not match"
    }


def test_only_the_size_of_large_files_is_checked_and_the_reason_says_so(
    done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digits.storage.store.GLANCE_BYTES", 10)
    arrays = done.workspace.store.folder(done.made["normalize"])
    alter(arrays)

    planned = plan(done.workspace)

    assert planned["normalize"].would == "stay cached"
    assert planned["normalize"].reason.endswith("; large, so only the size was checked: content")
    cut(arrays)
    assert list(running(plan(done.workspace))) == ["normalize"]


def test_the_most_similar_earlier_run_explains_a_step(done: Run, code: Code) -> None:
    code.texts["digits/models.py: MODELS[cnn]/builder"] = "another text"
    arrays = done.made["normalize"]
    settings = training_settings("reference", "cnn", epochs=3)
    arguments = {"arrays": arrays, "model": "cnn", "settings": settings, "device": "cpu"}
    done.record("train cnn", arguments, done.made["train cnn"])
    del code.texts["digits/models.py: MODELS[cnn]/builder"]

    # One difference from v1, two from the newer training.
    assert running(plan(done.workspace, epochs=4))["train cnn"] == (
        "settings.epochs 10 -> 4 since v1"
    )


def test_the_same_step_of_another_model_is_not_an_explanation(workspace: Workspace) -> None:
    run = Run(workspace)
    run.run()
    for record in list(workspace.records.all()):
        if record.label in {"train mlp", "evaluate mlp"}:
            workspace.records.path(record.key.digest).unlink()

    assert running(plan(workspace)) == {"train mlp": "it never ran"}


def test_another_dataset_is_not_an_explanation(done: Run) -> None:
    settings = done.workspace.settings
    write_spec(settings, SPEC, name="other")
    shutil.copytree(settings.raw_dir / NAME, settings.raw_dir / "other")

    assert running(plan(done.workspace, name="other")) == {"ingest": "it never ran"}


def test_a_champion_scored_on_another_test_set_would_be_scored_again(done: Run) -> None:
    path = done.workspace.settings.raw_dir / NAME / "test-images.idx"
    write_raw(done.workspace.settings, "test-images", path.read_bytes()[:-1] + b"\1")
    Run(done.workspace).prepare()

    planned = plan(done.workspace)

    assert planned["evaluate champion"].would == "run"


def test_a_champion_with_corrupted_predictions_would_be_scored_again(
    workspace: Workspace,
) -> None:
    first = Run(workspace)
    first.run()
    Run(workspace, wrong=90).run()
    path = workspace.store.folder(first.made["evaluate cnn"]) / "predictions.parquet"
    path.write_bytes(b"no answers")

    planned = plan(workspace)

    assert planned["evaluate champion"].would == "run"
    assert planned["evaluate champion"].reason.startswith(f"{path} has 10 bytes")


def test_the_report_depends_on_an_unknown_decision(done: Run) -> None:
    Run(done.workspace, wrong=10).run()
    roll_back(NAME, 1, "by hand", done.workspace)

    planned = plan(done.workspace)

    assert running(planned) == {}
    assert planned["report"].would == "depend"
    assert planned["report"].reason == "another decision makes another page"


def test_without_a_ledger_the_report_depends_on_the_decision(done: Run) -> None:
    ledger = Ledger(NAME, done.workspace.settings)
    ledger.path.unlink()
    ledger.path.with_suffix(".head").unlink()

    assert plan(done.workspace)["report"].would == "depend"


def test_a_plan_changes_nothing(done: Run) -> None:
    def everything() -> dict[Path, tuple[bytes, int]]:
        folder = done.workspace.settings.artifacts_dir.parent
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = everything()

    plan(done.workspace)
    plan(done.workspace, epochs=3)

    assert everything() == before


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's code, which is read again after each edit."""
    for package in ("digits", "tasks"):
        shutil.copytree(
            ROOT / package,
            tmp_path / "copy" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    read_again(tmp_path / "copy", monkeypatch)
    return tmp_path / "copy"


def read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(root)
    monkeypatch.setattr(keys, "project", lambda: project)


@pytest.mark.faults
def test_an_edit_of_the_real_code_is_named(
    copied: Path, small_dataset: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(small_dataset)
    Run(workspace).run()
    path = copied / "digits" / "training" / "models" / "cnn.py"
    text = path.read_text()

    path.write_text("# A comment.\n" + text.replace("\n\n\n", "\n\n\n\n"))
    read_again(copied, monkeypatch)
    assert running(plan(workspace)) == {}

    assert text.count("convolution(16") == 1
    path.write_text(text.replace("convolution(16", "convolution(17"))
    read_again(copied, monkeypatch)
    assert running(plan(workspace)) == {
        "train cnn": "digits/training/models/cnn.py: build_cnn changed since v1"
    }


HEAVY = ("great_expectations", "jax", "keras", "matplotlib", "pandas", "prefect")
HEAVY += ("pyarrow", "rich", "scipy", "sklearn", "tensorflow", "torch")


@pytest.mark.parametrize(
    "command", [["plan"], ["plan", "--json"], ["status"], ["history"], ["gc", "--dry-run"]]
)
def test_read_only_command_imports_nothing_heavy(done: Run, command: list[str]) -> None:
    settings = done.workspace.settings
    program = (
        "import json, sys\n"
        "from flows.cli import main\n"
        "main(standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    dataset = [] if command[0] == "gc" else ["--dataset", NAME]
    result = subprocess.run(
        [sys.executable, "-c", program, *command, *dataset],
        cwd=ROOT,
        env={
            **os.environ,
            "DIGITS_DATA_DIR": str(settings.data_dir),
            "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
        },
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert "digits.storage.workspace" in loaded
    assert not loaded.intersection(HEAVY)
