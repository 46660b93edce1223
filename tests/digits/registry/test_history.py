from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from digits.errors import DamagedError, UsageError
from digits.registry.history import describe_entry, describe_version, roll_back, status
from digits.registry.ledger import Ledger, ModelVersion, forms_of, versions_of
from digits.storage.lineage import LineageStep, write_lineage
from digits.storage.records import StepKey
from digits.storage.references import ModelRef, OnnxRef, Reference
from digits.storage.workspace import Workspace
from tests.support.histories import (
    digest,
    promotion,
    store_form,
    store_model,
    store_score,
    write_history,
)
from tests.support.small_dataset import NAME


def store_arrays(workspace: Workspace, text: str) -> str:
    with workspace.store.create("arrays") as draft:
        (draft.path / "x_test.npy").write_text(text)
    return draft.digest


def promote(
    workspace: Workspace, text: str, test_set: str = "a", images: str | None = None
) -> ModelVersion:
    """Store a model and promote it unconditionally; its lineage names arrays if there are any."""
    model = store_model(workspace, text)
    score = store_score(workspace, model, range(5), test_set=test_set)
    with Ledger(NAME, workspace.settings).deciding() as ledger:
        before = ledger.champion.number if ledger.champion else None
        number = 1 + sum(entry.version is not None for entry in ledger.entries)
        verdict, version = promotion(number, model, score, before)
        if images is not None:
            key = StepKey(step="normalize", inputs={}, code={}, libraries={})
            step = LineageStep(key=key, output=store_arrays(workspace, images))
            lineage = write_lineage({"normalize": step}, workspace.store)
            version = version.model_copy(update={"lineage": lineage})
        ledger.append(verdict, run="a run", data_digest=digest("d"), version=version)
    return version


def champion_number(workspace: Workspace) -> int | None:
    champion = Ledger(NAME, workspace.settings).champion()
    return champion.number if champion else None


@pytest.fixture
def versions(workspace: Workspace) -> list[ModelVersion]:
    return [promote(workspace, text) for text in ("first", "second", "third")]


@pytest.mark.usefixtures("versions")
def test_a_rollback_goes_to_the_previous_champion(workspace: Workspace) -> None:
    entry = roll_back(NAME, None, "by hand", workspace)

    verdict = entry.verdict
    assert (verdict.outcome, verdict.rule, entry.run) == ("rolled back", "by hand", "by hand")
    assert (verdict.champion_before, verdict.champion_after) == (3, 2)
    assert verdict.reason == "version 3 was rolled back to version 2 by hand"
    assert champion_number(workspace) == 2


@pytest.mark.usefixtures("versions")
def test_repeated_rollbacks_go_further_back(workspace: Workspace) -> None:
    roll_back(NAME, None, "by hand", workspace)
    roll_back(NAME, None, "by hand", workspace)

    assert champion_number(workspace) == 1
    with pytest.raises(UsageError, match=f"version 1 of {NAME} is the first champion"):
        roll_back(NAME, None, "by hand", workspace)


def test_a_rollback_to_a_version_without_an_onnx_form_makes_it(workspace: Workspace) -> None:
    first, second = (promote(workspace, text, images="arrays") for text in ("first", "second"))
    asked: list[tuple[str, str]] = []

    def convert(model: ModelRef, arrays: Reference) -> OnnxRef:
        asked.append((model.digest, arrays.digest))
        return store_form(workspace, model)

    entries = [roll_back(NAME, number, "by hand", workspace, convert) for number in (1, 2, 1)]

    arrays = store_arrays(workspace, "arrays")
    assert asked == [(first.model.digest, arrays), (second.model.digest, arrays)]
    assert [len(entry.forms) for entry in entries] == [1, 1, 0]
    assert forms_of(Ledger(NAME, workspace.settings).entries(), 1) == entries[0].forms


@pytest.mark.parametrize("images", [None, "arrays"])
def test_a_rollback_succeeds_without_an_onnx_form(
    workspace: Workspace, images: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("first", "second"):
        promote(workspace, text, images=images)

    # Without `convert` the real one, which these made-up models do not survive.
    entry = roll_back(NAME, 1, "by hand", workspace)

    assert (champion_number(workspace), entry.forms) == (1, ())
    assert "version 1 has no ONNX form yet, so it cannot label images: " in caplog.text


@pytest.mark.usefixtures("versions")
def test_any_version_can_be_restored(workspace: Workspace) -> None:
    for number in (1, 3, 2):
        roll_back(NAME, number, "by hand", workspace)
        assert champion_number(workspace) == number


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (3, f"version 3 of {NAME} is already the champion"),
        (4, f"{NAME} has no version 4 (versions: 1, 2, 3)"),
        (0, f"{NAME} has no version 0 (versions: 1, 2, 3)"),
    ],
)
def test_an_invalid_target_is_reported(workspace: Workspace, number: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        roll_back(NAME, number, "by hand", workspace)

    assert str(caught.value) == message
    assert len(Ledger(NAME, workspace.settings).entries()) == 3


def test_without_a_champion_there_is_nothing_to_roll_back(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="has no champion yet: nothing to roll back"):
        roll_back(NAME, None, "by hand", workspace)


def alter_model(workspace: Workspace, version: ModelVersion) -> Path:
    path = workspace.store.folder(version.model) / "model.keras"
    path.write_text("secund")
    return path


def lose_model(workspace: Workspace, version: ModelVersion) -> Path:
    path = workspace.store.folder(version.model) / "model.keras"
    path.unlink()
    return path


def alter_answers(workspace: Workspace, version: ModelVersion) -> Path:
    path = workspace.store.folder(version.evaluation) / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return path


@pytest.mark.faults
@pytest.mark.parametrize("damage", [alter_model, lose_model, alter_answers])
def test_the_targets_bytes_are_checked_first(
    workspace: Workspace,
    versions: list[ModelVersion],
    damage: Callable[[Workspace, ModelVersion], Path],
) -> None:
    path = damage(workspace, versions[1])

    with pytest.raises(DamagedError, match=str(path)):
        roll_back(NAME, 2, "by hand", workspace)

    assert champion_number(workspace) == 3
    assert len(Ledger(NAME, workspace.settings).entries()) == 3
    # Another version can still be chosen.
    roll_back(NAME, 1, "by hand", workspace)
    assert champion_number(workspace) == 1


def test_accuracies_on_different_test_sets_are_not_combined(workspace: Workspace) -> None:
    promote(workspace, "first", test_set="a")
    promote(workspace, "second", test_set="b")
    third = promote(workspace, "third", test_set="b")

    entry = roll_back(NAME, 2, "by hand", workspace)
    assert entry.verdict.champion_score == third.evaluation
    assert entry.verdict.champion_accuracy == third.evaluation.accuracy

    entry = roll_back(NAME, 1, "by hand", workspace)
    assert entry.verdict.champion_score is None
    assert entry.verdict.champion_accuracy is None


def test_the_status_of_a_dataset_without_decisions(workspace: Workspace) -> None:
    assert status(NAME, workspace) == {
        "dataset": NAME,
        "champion": None,
        "last_decision": None,
        "num_decisions": 0,
        "report": None,
    }


def test_the_status_is_the_champion_and_the_last_decision(
    workspace: Workspace, versions: list[ModelVersion]
) -> None:
    write_history(Ledger(NAME, workspace.settings), "k")
    entries = Ledger(NAME, workspace.settings).entries()

    facts = status(NAME, workspace)

    assert facts["num_decisions"] == 4
    assert facts["last_decision"] == describe_entry(entries[-1])
    assert facts["champion"] == {
        "version": 3,
        "model": "cnn",
        "digest": versions[2].model.digest,
        "onnx": None,
        "num_parameters": 10,
        "accuracy": 0.95,
        "interval": (0.1, 0.9),
        "loss": 0.5,
        "since": entries[2].time.isoformat(timespec="seconds"),
    }


def test_a_champions_start_is_when_it_last_became_champion(workspace: Workspace) -> None:
    written = write_history(Ledger(NAME, workspace.settings), "pkpk1k")
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 7)]
    entries = [
        entry.model_copy(update={"time": day}) for entry, day in zip(written, days, strict=True)
    ]
    versions = versions_of(entries)

    since = [describe_version(versions[number], entries)["since"] for number in (1, 2)]

    assert since == ["2026-01-05T00:00:00+00:00", "2026-01-03T00:00:00+00:00"]


def test_a_described_decision_has_the_time_the_run_and_the_verdict(
    workspace: Workspace,
) -> None:
    (entry,) = write_history(Ledger(NAME, workspace.settings), "p")

    facts = describe_entry(entry)

    assert (facts["number"], facts["run"], facts["data_digest"]) == (
        1,
        "run version 0",
        digest("d"),
    )
    assert facts["time"] == entry.time.isoformat(timespec="seconds")
    assert entry.verdict.model_dump(mode="json").items() <= facts.items()
