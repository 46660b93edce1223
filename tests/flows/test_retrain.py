"""Complete runs on the small dataset: what is executed, decided and printed."""

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect.flow_engine import BaseFlowRunEngine

from digits.errors import DigitsError
from digits.progress import Progress
from digits.registry.ledger import Ledger, forms_of
from digits.storage.workspace import Workspace
from flows.rollback import rollback
from tasks import train
from tests.flows.conftest import DATASET, REQUEST, FinishedRun
from tests.support.commands import call_digits, read_json, run_digits
from tests.support.histories import forget_forms
from tests.support.small_dataset import NAME, write_raw, write_small_dataset

LIBRARIES = (
    "tensorflow",
    "keras",
    "great_expectations",
    "matplotlib",
    "pyarrow",
    "scipy",
    "pandas",
    "numpy",
    "mlflow",
)
# Runs a command, then prints which of the libraries it imported.
SPY = f"""
import sys
from flows.cli import main
try:
    main(prog_name="digits")
finally:
    print("imported:", *(name for name in {LIBRARIES} if name in sys.modules), file=sys.stderr)
"""


def run_json(*arguments: str) -> Mapping[str, Any]:
    """Run in this process, and return the JSON that it prints."""
    facts: Mapping[str, Any] = read_json(call_digits("run", *DATASET, *arguments, "--json"))
    return facts


def executed(facts: Mapping[str, Any]) -> set[str]:
    return {step for step, how in facts["steps"].items() if how == "executed"}


def test_a_first_run_prints_both_models_the_decision_and_the_report(first_run: FinishedRun) -> None:
    blank, heading, mlp, cnn, _, *rest = first_run.printed.stdout.splitlines()
    assert blank == ""
    assert re.split(r" {2,}", heading) == [
        "model",
        "parameters",
        "test accuracy",
        "95% interval",
        "test loss",
        "training time",
    ]
    row = r"{}  +{}  +[\d.]+%  +[\d.]+% to [\d.]+%  +\d\.\d{{4}}  +\d+\.\d s"
    assert re.fullmatch(row.format("mlp", "141,194"), mlp)
    assert re.fullmatch(row.format("cnn", "39,130"), cnn)
    decision, champion, data, steps, report = rest
    assert re.fullmatch(
        r"Decision: promoted: the mlp reached [\d.]+%; there was no previous champion", decision
    )
    assert champion == "Champion: version 1"
    assert data == "Data:     dataset version 1"
    assert steps.startswith("Steps:    executed ingest, validate, normalize, train ")
    page = Path(report.removeprefix("Report:   "))
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_run_logs_its_progress_and_the_libraries_print_nothing(first_run: FinishedRun) -> None:
    lines = first_run.printed.stderr.splitlines()
    said = [match[1] for line in lines if (match := re.match(r"\d\d:\d\d:\d\d (.*)", line))]
    assert len(said) == len(lines), first_run.printed.stderr
    for step in ("ingest", "validate", "normalize", "train mlp", "evaluate cnn", "report"):
        assert said.count(f"{step}: running") == 1
    assert sum(line.startswith("Devices: ") for line in said) == 1
    assert any(line.startswith("train mlp: epoch 1/1, loss ") for line in said)


def test_an_unchanged_run_only_decides_and_loads_no_library(
    first_run: FinishedRun, finished: Workspace, prefect_api: str
) -> None:
    printed = run_digits(
        finished.settings, "run", *REQUEST, "--json", code=SPY, PREFECT_API_URL=prefect_api
    )
    facts = read_json(printed)
    assert printed.stderr.splitlines()[-1] == "imported:"
    assert "starting Prefect's server" not in printed.stderr
    assert executed(facts) == set()
    assert len(facts["steps"]) == 8
    assert facts["decision"]["outcome"] == "unchanged"
    # The same report: it shows the decision that made the champion.
    assert facts["report"].split("/")[-2:] == first_run.printed.stdout.strip().split("/")[-2:]
    first, second = Ledger(NAME, finished.settings).entries()
    assert (first.number, second.number) == (1, 2)


@pytest.mark.usefixtures("finished")
def test_an_unchanged_run_says_that_nothing_has_changed() -> None:
    printed = call_digits("run", *REQUEST)
    assert printed.exit_code == 0
    nothing = "Steps:    nothing has changed: all 8 came from the cache, nothing was trained"
    assert nothing in printed.stdout.splitlines()
    assert "ingest: from the cache, made by retrain handwriting reference of 20" in printed.stderr


@pytest.mark.usefixtures("finished")
def test_a_run_sends_no_heartbeats_that_its_end_would_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(
        BaseFlowRunEngine, "_emit_flow_run_heartbeat", lambda *_: sent.append("a heartbeat")
    )
    assert call_digits("run", *REQUEST).exit_code == 0
    assert sent == []


@pytest.mark.usefixtures("finished")
def test_another_seed_trains_again_and_a_worse_model_is_not_promoted() -> None:
    facts = run_json("--epochs", "1", "--models", "cnn", "--seed", "1")
    assert executed(facts) == {"train cnn", "evaluate cnn", "report"}
    assert facts["decision"]["outcome"] == "kept"
    assert facts["decision"]["reason"].endswith(": less accurate")
    assert read_json(call_digits("status", *DATASET, "--json"))["champion"]["version"] == 1


@pytest.mark.usefixtures("finished")
def test_a_better_model_is_promoted_but_not_again_after_a_rollback() -> None:
    better = run_json("--epochs", "3", "--models", "mlp")
    assert better["decision"]["outcome"] == "promoted"
    assert executed(better) == {"train mlp", "evaluate mlp", "convert mlp", "report"}
    assert better["decision"]["champion_after"] == 2
    assert read_json(call_digits("rollback", *DATASET, "--json"))["champion_after"] == 1
    again = run_json("--epochs", "3", "--models", "mlp")
    assert executed(again) == {"report"}
    assert again["decision"]["outcome"] == "kept"
    assert "was rolled back on" in again["decision"]["reason"]
    assert again["decision"]["champion_after"] == 1


@pytest.mark.usefixtures("finished")
def test_a_version_is_reproduced_bit_for_bit() -> None:
    outcome = read_json(call_digits("reproduce", "1", *DATASET, "--json"))
    assert outcome["is_same"] is True
    assert outcome["reproduced"] == outcome["recorded"]
    assert outcome["differences"] == []


@pytest.mark.usefixtures("finished")
def test_both_models_are_trained_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def meet(_: str) -> None:
        both.wait(timeout=60)
        raise DigitsError("both have met")

    monkeypatch.setattr(train, "configure_backend", meet)
    printed = call_digits("run", *REQUEST, "--seed", "2")
    assert printed.stderr.splitlines()[-1] == "Error: both have met"


@pytest.mark.timeout(150)
def test_a_failed_training_ends_the_other_and_does_not_change_the_ledger(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_under_way = threading.Event()
    start, finish_epoch = Progress.begin, Progress.finish_epoch

    def begin(self: Progress, *numbers: int) -> None:
        if self._name == "train mlp":
            is_under_way.wait()
            raise DigitsError("the mlp failed")
        start(self, *numbers)

    def finish(self: Progress, figures: Mapping[str, Any]) -> None:
        finish_epoch(self, figures)
        is_under_way.set()

    monkeypatch.setattr(Progress, "begin", begin)
    monkeypatch.setattr(Progress, "finish_epoch", finish)
    before = Ledger(NAME, finished.settings).path.read_bytes()
    # Too many epochs for the cnn to finish.
    printed = call_digits("run", *DATASET, "--epochs", "100000")
    assert printed.exit_code == 1
    assert printed.stdout == ""
    assert printed.stderr.splitlines()[-1] == "Error: the mlp failed"
    assert Ledger(NAME, finished.settings).path.read_bytes() == before
    assert not list(finished.store.root("models").glob(".tmp-*"))


def test_a_champion_is_scored_again_on_another_test_set(finished: Workspace) -> None:
    champion = Ledger(NAME, finished.settings).champion()
    assert champion is not None
    reverse_the_test_set(finished)
    model = finished.store.folder(champion.model) / "model.keras"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    request = ("--epochs", "1", "--models", "mlp", "--seed", "3")
    printed = call_digits("run", *DATASET, *request)
    assert printed.exit_code == 1
    assert printed.stderr.splitlines()[-1].startswith(
        "Error: cannot score the champion, version 1, on this test set: "
        f"{model} has {len(content) - 1} bytes (expected {len(content)})"
    )
    assert "digits rollback" in printed.stderr
    model.write_bytes(content)
    facts = run_json(*request)
    assert facts["decision"]["outcome"] == "promoted"
    assert executed(facts) == {"evaluate mlp", "convert mlp", "report"}
    score = Ledger(NAME, finished.settings).entries()[-1].verdict.champion_score
    assert score is not None
    assert score.model_digest == champion.model.digest
    assert score.test_digest != champion.evaluation.test_digest
    assert score.num_correct == champion.evaluation.num_correct


@pytest.mark.slow
def test_a_version_of_an_earlier_release_gets_its_onnx_form(finished: Workspace) -> None:
    run_json("--epochs", "3", "--models", "mlp")
    forget_forms(finished)
    command = ("predict", "nothing.png", *DATASET)
    assert "has no ONNX form" in call_digits(*command).stderr

    # The run converted both models before: the records are found again.
    facts = run_json("--epochs", "3", "--models", "mlp")
    entry = rollback(dataset=NAME)

    ledger = Ledger(NAME, finished.settings).entries()
    assert facts["steps"]["convert mlp"].startswith("cached from ")
    assert [form.model_digest for form in forms_of(ledger, 2)] == [ledger[1].version.model.digest]
    assert [form.model_digest for form in entry.forms] == [ledger[0].version.model.digest]
    assert finished.records.read(entry.forms[0].made_by) is not None
    assert call_digits(*command).stderr == "Error: nothing.png does not exist\n"


def reverse_the_test_set(workspace: Workspace) -> None:
    """Reverse the test images: a different test set with the same number of correct labels."""
    from digits.datasets.sources.idx import format_idx
    from tests.support.handwriting import make_splits

    write_small_dataset(workspace.settings)
    for kind, array in zip(("images", "labels"), make_splits()["test"], strict=True):
        write_raw(workspace.settings, f"test-{kind}", format_idx(array[::-1]))
