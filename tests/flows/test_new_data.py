"""A growing dataset: what is retrained, what it is compared with, and what is kept."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from digits.intake.incoming import incoming_folder, quarantine_folder
from digits.registry.ledger import Ledger
from digits.storage.workspace import Workspace
from tasks.artifacts import newest
from tests.flows.conftest import DATASET
from tests.support.commands import call_digits, read_json
from tests.support.handwriting import Pair, make_more
from tests.support.layouts import write_csv
from tests.support.small_dataset import NAME, write_small_dataset

MLP = ("--epochs", "1", "--device", "cpu", "--models", "mlp")
AGAIN = {"ingest", "validate", "normalize", "train mlp", "evaluate mlp", "report"}


def run() -> Mapping[str, Any]:
    facts: Mapping[str, Any] = read_json(call_digits("run", *DATASET, *MLP, "--json"))
    return facts


def executed(facts: Mapping[str, Any]) -> set[str]:
    return {step for step, how in facts["steps"].items() if how == "executed"}


def planned() -> dict[str, str]:
    steps = read_json(call_digits("plan", *DATASET, *MLP, "--json"))
    return {step["step"]: step["reason"] for step in steps if step["would"] == "run"}


def save(batch: Pair, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=batch[0], y_train=batch[1])
    return path


def inverted(batch: Pair) -> Pair:
    return 255 - batch[0], batch[1]


def artifacts(key: str) -> list[str]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    return [str(artifact.data) for artifact in found]


def test_new_data_is_trained_on_and_the_champion_is_scored_again_first(
    finished: Workspace, tmp_path: Path
) -> None:
    before = Ledger(NAME, finished.settings).champion()
    assert before is not None

    added = read_json(
        call_digits(
            "dataset",
            "add",
            "--dataset",
            NAME,
            str(save(make_more(120, 1), tmp_path / "a.npz")),
            "--json",
        )
    )
    reason = planned()["ingest"]
    facts = run()

    assert f"batches.batch 0001 none -> {added['batch'][:12]}" in reason
    assert facts["dataset"] == {"version": 2, "batches": [added["batch"]]}
    assert executed(facts) - {"convert mlp"} == AGAIN
    num_test = 200 + sum(added["growth"]["test"]["class_sizes"])
    last = Ledger(NAME, finished.settings).entries()[-1].verdict
    assert last.champion_score is not None
    assert last.champion_score.model_digest == before.model.digest
    assert last.champion_score.num_images == num_test > 200
    assert last.champion_score.test_digest != before.evaluation.test_digest
    is_better = last.candidate_accuracy > (last.champion_accuracy or 0)
    assert last.outcome == ("promoted" if is_better else "kept")
    assert ("convert mlp" in executed(facts)) == is_better
    assert executed(run()) == set()
    (page, *_) = artifacts(f"retrain-{NAME}")
    assert "Data: dataset version 2, 1 batch." in page


@pytest.mark.slow
@pytest.mark.faults
def test_incoming_batches_are_added_first_and_a_bad_one_stops_nothing(
    finished: Workspace,
) -> None:
    run()
    folder = incoming_folder(NAME, finished.settings)
    save(inverted(make_more(50, 2)), folder / "1-bad.npz")
    good = folder / "2-good"
    good.mkdir()
    write_csv(good, {"train": make_more(60, 3)})
    (folder / "3-growing.npz.part").write_bytes(b"PK")
    shown = len(artifacts(f"batch-{NAME}"))

    facts = run()

    assert executed(facts) - {"convert mlp"} == AGAIN
    assert facts["dataset"]["version"] == 2
    assert [path.name for path in folder.iterdir()] == ["3-growing.npz.part"]
    (refused,) = quarantine_folder(NAME, finished.settings).iterdir()
    assert [path.name for path in (refused / "originals").iterdir()] == ["1-bad.npz"]
    pages = artifacts(f"batch-{NAME}")[shown:]
    assert sorted("was refused" in page for page in pages) == [False, True]


def test_a_bad_batch_alone_changes_nothing(finished: Workspace) -> None:
    path = incoming_folder(NAME, finished.settings) / "bad.npz"
    save(inverted(make_more(50, 2)), path)
    assert "add incoming" in planned()

    facts = run()

    # Only a report about the mlp alone.
    assert executed(facts) == {"report"}
    assert facts["dataset"] == {"version": 1, "batches": []}
    assert facts["decision"]["outcome"] == "unchanged"
    assert planned().keys() == {"promote"}
    shown = str(newest(f"batch-{NAME}"))
    assert "was refused" in shown
    assert str(path) in shown


@pytest.mark.slow
@pytest.mark.faults
def test_a_removed_batch_leaves_no_trace_in_the_training(
    finished: Workspace, tmp_path: Path
) -> None:
    run()
    added = read_json(
        call_digits(
            "dataset",
            "add",
            "--dataset",
            NAME,
            str(save(make_more(120, 1), tmp_path / "a.npz")),
            "--json",
        )
    )
    grown = run()

    removed = call_digits("dataset", "remove", "--dataset", NAME, added["batch"][:8])
    facts = run()

    assert removed.exit_code == 0
    assert facts["dataset"] == {"version": 3, "batches": []}
    assert executed(facts) <= {"report", "evaluate mlp"}
    assert facts["models"][0]["digest"] != grown["models"][0]["digest"]
    assert (
        facts["models"][0]["digest"] == Ledger(NAME, finished.settings).versions()[1].model.digest
    )


@pytest.mark.slow
@pytest.mark.faults
def test_a_corrupted_batch_stops_the_run_and_the_error_says_what_to_do(
    finished: Workspace, tmp_path: Path
) -> None:
    path = save(make_more(60, 1), tmp_path / "a.npz")
    added = read_json(call_digits("dataset", "add", "--dataset", NAME, str(path), "--json"))
    kept = finished.settings.data_dir / "batches" / NAME / added["batch"] / "images.parquet"
    content = kept.read_bytes()
    kept.write_bytes(content[:-1])

    printed = call_digits("run", *DATASET, *MLP)

    assert printed.exit_code == 1
    line = printed.stderr.splitlines()[-1]
    assert line.startswith(f"Error: batch {added['batch'][:12]} of {NAME}, added from {path}")
    assert f"digits dataset remove --dataset {NAME} {added['batch'][:12]}" in line
    again = read_json(call_digits("dataset", "add", "--dataset", NAME, str(path), "--json"))
    assert (again["status"], again["version"]) == ("known", 2)
    assert kept.read_bytes() == content
    assert run()["dataset"]["version"] == 2


@pytest.mark.slow
@pytest.mark.faults
def test_a_version_is_reproduced_from_the_batches_it_was_trained_on(
    current: Workspace, tmp_path: Path
) -> None:
    write_small_dataset(current.settings)
    path = save(make_more(60, 1), tmp_path / "a.npz")
    batch = read_json(call_digits("dataset", "add", "--dataset", NAME, str(path), "--json"))[
        "batch"
    ]
    assert run()["decision"]["champion_after"] == 1
    assert call_digits("dataset", "remove", "--dataset", NAME, batch).exit_code == 0
    shutil.rmtree(current.settings.prepared_dir)

    outcome = read_json(call_digits("reproduce", "1", *DATASET, "--json"))

    assert outcome["is_same"] is True
