import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.cache.fingerprint import digest_of
from digits.errors import DamagedError
from digits.recipes import training_settings
from digits.registry.ledger import ModelVersion
from digits.report.run_report import write_run_report
from digits.spec import Layout
from digits.storage.lineage import Lineage, LineageStep
from digits.storage.records import StepKey, canonical_digest
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef, ValidationRef
from digits.storage.store import Store
from digits.storage.workspace import Workspace
from tests.support.markup import Element, parse_page
from tests.support.reports import digest, make_layout, make_model, make_test_images, make_verdict

LAYOUT = make_layout(num_classes=4)
NUM_IMAGES = 40
SOURCES = {"test-images": digest("images as distributed"), "test-labels": digest("labels")}


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return workspace.store


@pytest.fixture
def run(store: Store, tmp_path: Path) -> dict[str, Any]:
    """The arguments of write_run_report, with their bundles in the store."""
    arrays = store_arrays(store, LAYOUT)
    scored = [store_model(store, tmp_path, arrays, name) for name in ("mlp", "cnn")]
    champion = EvaluationRef.model_validate(
        scored[0][1].model_dump() | {"digest": digest("score"), "num_parameters": 1234}
    )
    return {
        "title": "Made-up digits",
        "validation": ValidationRef(digest=digest("validation"), num_expectations=51),
        "arrays": arrays,
        "scored": scored,
        "verdict": make_verdict(champion_score=champion),
        "rival": ModelVersion(
            number=3, model=scored[0][0], evaluation=champion, lineage=digest("way")
        ),
        "lineage": make_lineage(arrays, scored[1][0]),
    }


def store_arrays(store: Store, layout: Layout) -> ArraysRef:
    images, labels = make_test_images(layout, NUM_IMAGES)
    with store.create("arrays") as draft:
        for split, number in (("train", 30), ("test", NUM_IMAGES)):
            np.save(draft.path / f"x_{split}.npy", np.float32(images[:number, ..., None]) / 255)
            np.save(draft.path / f"y_{split}.npy", labels[:number])
    return ArraysRef(
        digest=draft.digest,
        layout=layout,
        num_train=30,
        num_test=NUM_IMAGES,
        test_digest=digest("test set"),
    )


def store_model(
    store: Store, folder: Path, arrays: ArraysRef, name: str
) -> tuple[ModelRef, EvaluationRef]:
    """Store the bundles of one model, as training and evaluation write them."""
    _, y_test = make_test_images(LAYOUT, NUM_IMAGES)
    facts = make_model(folder, name, LAYOUT, y_test, has_test_curve=name == "cnn")
    with store.create("models") as trained:
        (trained.path / "history.json").write_text(json.dumps(facts.history.model_dump()))
    model = ModelRef(
        digest=trained.digest,
        model=name,
        num_parameters=facts.metrics.num_parameters,
        settings=training_settings("reference", name),
        device="cpu",
        seconds=12.3,
    )
    with store.create("evaluations") as scored:
        (scored.path / "metrics.json").write_text(json.dumps(facts.metrics.model_dump()))
        facts.predictions.rename(scored.path / "predictions.parquet")
    metrics = facts.metrics.model_dump(exclude={"classes", "confusion", "shift"})
    return model, EvaluationRef(
        digest=scored.digest,
        model=name,
        model_digest=model.digest,
        test_digest=arrays.test_digest,
        **metrics,
    )


def make_lineage(arrays: ArraysRef, model: ModelRef) -> Lineage:
    ingest = StepKey(
        step="ingest",
        inputs={"content": SOURCES, "layout": LAYOUT.model_dump(mode="json")},
        code={"digits/datasets/ingestion.py: ingest": digest("code")},
        libraries={"python": "3.11", "pyarrow": "26.0"},
    )
    train = StepKey(
        step="train",
        inputs={"arrays": arrays.digest, "device": "cpu", "settings": {"seed": 7}},
        code={"digits/training/trainer.py: train_model": digest("code")},
        libraries={"python": "3.11", "keras": "3.15.1"},
    )
    return {
        "ingest": LineageStep(key=ingest, output=digest("dataset")),
        "train cnn": LineageStep(key=train, output=model.digest),
    }


def report(store: Store, run: dict[str, Any], output: Path) -> Element:
    output.mkdir(exist_ok=True)
    write_run_report(output, store, **run)
    assert [path.name for path in output.iterdir()] == ["report.html"]
    return parse_page((output / "report.html").read_text(encoding="utf-8"))


def test_a_run_becomes_a_page(store: Store, run: dict[str, Any], tmp_path: Path) -> None:
    page = report(store, run, tmp_path / "page")

    assert page.one("h1").text.startswith("New champion: the cnn, version 4.")
    rows = page.one("#scores").one("table").rows()
    assert [row[0] for row in rows[1:]] == [
        "mlp",
        "cnn new champion",
        "previous champion version 3, mlp",
    ]
    assert rows[3][3] == "1,234"
    settings = {row[0]: row[1:] for row in page.one("#settings").one("table").rows()}
    assert settings["optimizer"] == ["adamax", "adadelta"]
    assert page.one("#data").one("table").rows()[1] == ["class A", "8", "10"]
    assert len(page.one("#predictions").all("article.card")[0].all("img")) == 30
    curves = [chart["aria-label"] for chart in page.one("#curves").all("svg")]
    assert "test" not in curves[0]
    assert "test 93.33%" in curves[2]


def test_lineage_shows_the_inputs_of_each_step(
    store: Store, run: dict[str, Any], tmp_path: Path
) -> None:
    lineage = report(store, run, tmp_path / "page").one("#lineage")

    folded = lineage.one("details")
    digests = dict(
        zip((e.text for e in folded.all("dt")), (e.text for e in folded.all("dd")), strict=True)
    )
    key = run["lineage"]["train cnn"].key
    assert digests == {
        "test set": digest("test set"),
        "ingest: test-images": SOURCES["test-images"],
        "ingest: test-labels": SOURCES["test-labels"],
        "ingest: layout": canonical_digest(LAYOUT.model_dump(mode="json")),
        "ingest: code": digest_of(run["lineage"]["ingest"].key.code),
        "ingest: key": run["lineage"]["ingest"].key.digest,
        "ingest: output": digest("dataset"),
        "train cnn: arrays": run["arrays"].digest,
        "train cnn: settings": canonical_digest({"seed": 7}),
        "train cnn: code": digest_of(key.code),
        "train cnn: key": key.digest,
        "train cnn: output": run["scored"][1][0].digest,
        "version 3: model": run["rival"].model.digest,
        "version 3: score": digest("score"),
        "version 3: lineage": digest("way"),
    }
    assert "device cpu" in lineage.one("table").text
    assert "Libraries: keras 3.15.1, pyarrow 26.0, python 3.11." in lineage.text


def test_added_batches_are_listed(store: Store, run: dict[str, Any], tmp_path: Path) -> None:
    batches = {f"batch 000{number}": digest(f"batch {number}") for number in (1, 2)}
    ingest = run["lineage"]["ingest"]
    key = ingest.key.model_copy(update={"inputs": ingest.key.inputs | {"batches": batches}})
    lineage = run["lineage"] | {"ingest": LineageStep(key=key, output=ingest.output)}

    page = report(store, run | {"lineage": lineage}, tmp_path / "page")

    first, second = batches.values()
    assert f"2 batches: {first[:12]}, {second[:12]}" in page.one("#data").text
    assert second in page.one("#lineage").text
    assert "batch" not in report(store, run, tmp_path / "other").one("#data").text


def test_first_run_has_no_champion_to_show(
    store: Store, run: dict[str, Any], tmp_path: Path
) -> None:
    first = make_verdict(champion_before=None, champion_after=1, p_value=None, discordant=None)

    page = report(store, run | {"verdict": first, "rival": None}, tmp_path / "page")

    assert len(page.one("#scores").one("table").rows()) == 3
    assert "Compared with" not in page.one("#lineage").text


def test_equal_runs_give_equal_bytes(store: Store, run: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "other"):
        report(store, run, tmp_path / name)

    one, other = ((tmp_path / name / "report.html").read_bytes() for name in ("one", "other"))
    assert one == other


def without_accuracy(path: Path) -> None:
    metrics = json.loads(path.read_bytes())
    del metrics["accuracy"]
    path.write_text(json.dumps(metrics))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        ("evaluation/metrics.json", without_accuracy),
        ("evaluation/metrics.json", cut),
        ("evaluation/metrics.json", Path.unlink),
        ("evaluation/predictions.parquet", cut),
        ("model/history.json", cut),
        ("arrays/x_test.npy", cut),
        ("arrays/y_train.npy", Path.unlink),
    ],
)
def test_a_corrupted_file_is_reported_by_path(
    store: Store, run: dict[str, Any], tmp_path: Path, place: str, damage: Callable[[Path], None]
) -> None:
    kind, file = place.split("/")
    model, evaluation = run["scored"][0]
    references = {"evaluation": evaluation, "model": model, "arrays": run["arrays"]}
    path = store.folder(references[kind]) / file
    damage(path)

    with pytest.raises(DamagedError, match=f"^{path} cannot be read as "):
        write_run_report(tmp_path, store, **run)
