"""The commands: what each prints, as text and as JSON, and what it does not touch."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.flows.conftest import DATASET, REQUEST, FinishedRun
from tests.support.commands import call_digits, read_json, run_digits, start_digits
from tests.support.small_dataset import NAME

COMMANDS = ("doctor", "gc", "history", "plan", "reproduce", "rollback", "run", "status")
HEAVY = {"prefect", "tensorflow", "keras", "great_expectations", "matplotlib", "pyarrow", "scipy"}
# Runs a command, then prints which of the libraries it imported.
SPY = f"""
import sys
from flows.cli import main
try:
    main(prog_name="digits")
finally:
    print("imported:", *sorted({HEAVY} & sys.modules.keys()), file=sys.stderr)
"""


def test_help_lists_every_command(here: Settings) -> None:
    result = call_digits("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", result.stdout, re.MULTILINE)
    assert not here.artifacts_dir.exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_each_option(command: str) -> None:
    result = call_digits(command, "-h")
    assert result.exit_code == 0
    options = re.split(
        r"^  (?:-h, )?--", result.stdout.partition("Options:\n")[2], flags=re.MULTILINE
    )
    assert len(options) > 2
    for option in options[1:]:
        assert re.search(r" {2,}(?!\[)\S+ \S+", option), option


@pytest.mark.parametrize("command", ["--help", "status", "history", "plan"])
def test_read_only_command_loads_no_heavy_library(here: Settings, command: str) -> None:
    arguments = () if command == "--help" else DATASET
    result = run_digits(here, command, *arguments, code=SPY)
    assert result.returncode == 0
    assert result.stderr.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("command", ["status", "history", "plan"])
def test_read_only_command_writes_nothing(here: Settings, command: str) -> None:
    assert call_digits(command, *DATASET).exit_code == 0
    assert not here.artifacts_dir.exists()
    assert not here.prepared_dir.exists()


@pytest.mark.usefixtures("here")
def test_status_without_a_champion_says_what_to_do() -> None:
    text = f"{NAME} has no champion yet; `digits run` makes one\n"
    assert call_digits("status", *DATASET).stdout == text
    facts = {"dataset": NAME, "champion": None, "last_decision": None, "num_decisions": 0}
    assert read_json(call_digits("status", *DATASET, "--json")) == {**facts, "report": None}


@pytest.mark.usefixtures("here")
def test_history_without_a_decision_says_what_to_do() -> None:
    assert "`digits run` makes the first one" in call_digits("history", *DATASET).stdout
    assert read_json(call_digits("history", *DATASET, "--json")) == []


@pytest.mark.usefixtures("here")
def test_plan_of_a_first_run_executes_everything() -> None:
    first = call_digits("plan", *DATASET).stdout.splitlines()[0]
    assert re.fullmatch(r"ingest +runs +it never ran", first)
    plan = plan_of(*DATASET)
    assert list(plan) == [
        "ingest",
        "validate",
        "normalize",
        "train mlp",
        "evaluate mlp",
        "train cnn",
        "evaluate cnn",
        "convert mlp",
        "convert cnn",
        "promote",
        "report",
    ]
    assert "stay cached" not in {step["would"] for step in plan.values()}


@pytest.mark.usefixtures("here")
def test_plan_includes_only_the_requested_models() -> None:
    assert "train cnn" not in plan_of(*DATASET, "--models", "mlp")


@pytest.mark.usefixtures("finished")
def test_plan_of_an_unchanged_run_only_decides() -> None:
    *lines, last = call_digits("plan", *REQUEST).stdout.splitlines()
    assert last == "nothing has changed: `run` would only decide about the promotion"
    assert [line.split()[0] for line in lines if " cached " not in line] == ["promote"]
    plan = plan_of(*REQUEST)
    assert plan.pop("promote")["would"] == "run"
    assert {step["would"] for step in plan.values()} == {"stay cached"}


@pytest.mark.usefixtures("finished")
def test_plan_names_the_setting_that_changed() -> None:
    step = plan_of(*REQUEST, "--seed", "1")["train mlp"]
    assert step["would"] == "run"
    assert step["reason"] == "settings.seed 0 -> 1 since v1"


def test_status_describes_the_champion(finished: Workspace) -> None:
    champion = Ledger(NAME, finished.settings).champion()
    assert champion is not None
    facts = read_json(call_digits("status", *DATASET, "--json"))
    assert facts["champion"]["digest"] == champion.model.digest
    assert facts["champion"]["version"] == 1
    assert facts["num_decisions"] == 1
    text = call_digits("status", *DATASET).stdout
    assert text.startswith(f"{NAME}: version 1, mlp with 141,194 parameters, since 20")
    assert f"test accuracy {champion.evaluation.accuracy:.2%}" in text
    assert champion.model.digest in text
    assert "promoted: the mlp reached" in text


def test_status_names_the_last_report_of_its_dataset(finished: Workspace) -> None:
    shown = read_json(call_digits("status", *DATASET, "--json"))["report"]
    assert f"last report: {shown}" in call_digits("status", *DATASET).stdout
    (page,) = finished.store.root("reports").glob("*/report.html")
    assert Path(shown) == page
    assert read_json(call_digits("status", "--dataset", "mnist", "--json"))["report"] is None


@pytest.mark.usefixtures("finished")
def test_history_lists_each_decision() -> None:
    (entry,) = read_json(call_digits("history", *DATASET, "--json"))
    assert entry["outcome"] == "promoted"
    assert (entry["champion_before"], entry["champion_after"]) == (None, 1)
    (line,) = call_digits("history", *DATASET).stdout.splitlines()
    assert re.match(r" +1  20\S+  promoted     - -> 1 ", line)
    assert entry["reason"] in line


@pytest.mark.slow
def test_a_quiet_run_prints_only_its_result(first_run: FinishedRun, settings: Settings) -> None:
    first_run.copy_to(settings)
    result = run_digits(settings, "--quiet", "run", *REQUEST)
    assert result.returncode == 0
    assert "Decision: unchanged" in result.stdout
    assert result.stderr == ""


@pytest.mark.usefixtures("here")
def test_the_version_is_that_of_the_package() -> None:
    assert call_digits("--version").stdout == f"digits, version {version('digits')}\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("run --rec", ["--recipe"]),
        ("run --recipe q", ["quick"]),
        ("plan --models m", ["mlp"]),
        ("run --models mlp,", ["mlp,cnn"]),
        ("status --dataset h", [NAME]),
        ("export --format onnx,k", ["onnx,keras"]),
    ],
)
def test_options_and_their_values_are_completed(
    here: Settings, words: str, completed: list[str]
) -> None:
    shell = {"_DIGITS_COMPLETE": "bash_complete", "COMP_WORDS": f"digits {words}"}
    result = run_digits(here, **shell, COMP_CWORD=str(words.count(" ") + 1))
    assert result.stdout.splitlines() == [f"plain,{value}" for value in completed]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_command_ends_silently_when_its_reader_goes_away(
    here: Settings, form: tuple[str, ...]
) -> None:
    process = start_digits(here, "history", *DATASET, *form)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_gc_announces_what_it_deletes(finished: Workspace) -> None:
    assert call_digits("gc").exit_code == 0  # the leftovers of the trainings
    leftover = finished.store.root("models") / ("0" * 64)
    leftover.mkdir()
    (leftover / "model.keras").write_bytes(b"x" * 2000)
    announced = read_json(call_digits("gc", "--dry-run", "--json"))
    assert announced["paths"] == [str(leftover)]
    assert announced["num_bytes"] >= 2000  # the folder itself takes some space
    assert leftover.exists()
    assert str(leftover) in call_digits("gc").stdout
    assert not leftover.exists()
    assert read_json(call_digits("gc", "--json")) == {
        "paths": [],
        "num_bytes": 0,
        "objects": [],
    }
    champion = Ledger(NAME, finished.settings).champion()
    assert champion is not None
    assert finished.store.is_whole(champion.model)


def plan_of(*arguments: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the plan's JSON, by step."""
    return {step["step"]: step for step in read_json(call_digits("plan", *arguments, "--json"))}
