"""Sweeps on the small dataset: what is trained, cached, compared, promoted and refused."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from digits.progress import Progress
from digits.registry.ledger import Ledger
from digits.storage import locks
from digits.storage.workspace import Workspace
from flows.sweep import sweep
from tests.support.commands import call_digits, read_json, run_digits
from tests.support.markup import parse_page
from tests.support.small_dataset import NAME, SPEC, write_spec

SWEEP = ("sweep", "--datasets", NAME, "--models", "mlp", "--epochs", "1", "--device", "cpu")
RATES = ("--set", "learning_rate=0.001,0.003", "--seeds", "0-1")


def sweep_json(*arguments: str) -> Mapping[str, Any]:
    """Sweep in this process, and return the JSON that it prints."""
    facts: Mapping[str, Any] = read_json(call_digits(*SWEEP, *arguments, "--json"))
    return facts


def num_trained(facts: Mapping[str, Any]) -> int:
    return sum(not training["is_cached"] for training in facts["trainings"])


def test_a_sweep_compares_variants_and_a_second_one_trains_nothing(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sweep_json(*RATES)
    # The learning rate 0.001 is the recipe's: the run has trained the mlp with seed 0.
    assert [training["is_cached"] for training in first["trainings"]] == [True, *[False] * 3]
    names = [variant["variant"] for variant in first["variants"]]
    assert names == ["mlp reference learning_rate=0.001", "mlp reference learning_rate=0.003"]
    for variant in first["variants"]:
        low, high = variant["interval"]
        assert low <= variant["mean"] <= high
        assert variant["seeds"] == [0, 1]
    page = parse_page(Path(first["page"]).read_text(encoding="utf-8"))
    assert len(page.one("#trainings").one("table").rows()) == 1 + 4
    assert first["decisions"] == {}
    assert len(Ledger(NAME, finished.settings).entries()) == 1

    monkeypatch.setattr(Progress, "begin", lambda *_: pytest.fail("a model was trained"))
    second = sweep_json(*RATES)

    assert num_trained(second) == 0
    assert second["page"] == first["page"]
    assert [one["digest"] for one in second["trainings"]] == [
        one["digest"] for one in first["trainings"]
    ]


@pytest.mark.usefixtures("finished")
def test_a_dry_run_says_what_is_cached_and_trains_nothing() -> None:
    planned = read_json(call_digits(*SWEEP, *RATES, "--dry-run", "--json"))
    assert [(one["step"], one["would"]) for one in planned] == [
        (f"{NAME} mlp reference learning_rate=0.001 seed 0", "stay cached"),
        (f"{NAME} mlp reference learning_rate=0.003 seed 0", "run"),
        (f"{NAME} mlp reference learning_rate=0.001 seed 1", "run"),
        (f"{NAME} mlp reference learning_rate=0.003 seed 1", "run"),
    ]
    printed = call_digits(*SWEEP, *RATES, "--dry-run").stdout.splitlines()
    assert printed[-1] == "4 trainings, 1 of them cached"


@pytest.mark.slow
def test_the_best_variant_goes_through_the_promotion_rule(finished: Workspace) -> None:
    facts = sweep_json("--set", "learning_rate=0.0001,0.003", "--seeds", "0-1", "--promote")
    decision = facts["decisions"][NAME]
    best = [one for one in facts["trainings"] if "0.003" in one["variant"]]
    assert decision["outcome"] == "promoted"
    assert decision["candidate_digest"] in {one["digest"] for one in best}
    assert decision["candidate_accuracy"] == max(one["accuracy"] for one in best)
    champion = Ledger(NAME, finished.settings).champion()
    assert champion is not None
    assert champion.number == 2
    assert champion.model.settings.learning_rate == 0.003
    # A worse one is kept out by the same rule.
    worse = sweep_json("--set", "learning_rate=0.0001", "--promote")
    assert worse["decisions"][NAME]["outcome"] == "kept"


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_held_out_scores_choose_a_variant_that_is_trained_on_all_images_to_be_promoted() -> None:
    facts = sweep_json("--held-out", "--set", "learning_rate=0.0001,0.003", "--promote")
    assert facts["scored_on"] == "held-out images"
    decision = facts["decisions"][NAME]
    assert decision["candidate_digest"] not in {one["digest"] for one in facts["trainings"]}
    # The accuracy of the decision is that of 200 test images; 100 were held out.
    assert decision["candidate_accuracy"] * 200 == pytest.approx(
        round(decision["candidate_accuracy"] * 200)
    )
    again = call_digits(*SWEEP, "--held-out", "--set", "learning_rate=0.0001,0.003")
    assert "Trainings: 0 trained, 2 from the cache" in again.stdout
    assert "Scored on: held-out training images" in again.stdout


def test_a_dataset_that_fails_its_validation_does_not_lose_the_others(
    finished: Workspace,
) -> None:
    add_dataset(finished, "failing", SPEC + "\n[thresholds.test]\nmin_class_size = 10_000\n")
    printed = call_digits("sweep", "--datasets", f"failing,{NAME}", *SWEEP[3:])
    assert printed.exit_code == 1
    assert "mlp reference" in printed.stdout
    last = printed.stderr.splitlines()[-1]
    assert last.startswith("Error: 1 of 2 trainings finished; failing failed: ")
    assert "the finished ones are kept" in last


@pytest.mark.usefixtures("finished")
def test_a_training_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Progress.begin

    def fail_the_first(self: Progress, *numbers: int) -> None:
        if self._name == "train mlp 1/2":
            raise OSError("the disk is full")
        begin(self, *numbers)

    monkeypatch.setattr(Progress, "begin", fail_the_first)
    printed = call_digits(*SWEEP, "--seeds", "5,6")
    assert printed.exit_code == 1
    assert printed.stderr.splitlines()[-1].startswith(
        f"Error: 1 of 2 trainings finished; {NAME} mlp reference seed 5 failed: OSError: the disk"
    )
    monkeypatch.undo()


def test_a_sweep_that_is_running_is_not_started_again(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished.settings.artifacts_dir / "locks" / "sweeps" / "mine.lock"
    with locks.hold(path):
        printed = call_digits(*SWEEP, "--name", "mine")
        # As for the other deployments, a second run of the service is no failure.
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
        state = sweep(datasets=[NAME], name="mine", return_state=True)
    assert printed.exit_code == 1
    assert "the sweep mine is already running" in printed.stderr
    assert state.is_cancelled()
    assert "the sweep mine is already running" in str(state.message)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipes", "best,nope"), "unknown recipe 'nope'"),
        (("--recipes", "best,best"), "--recipes has a duplicate"),
        (("--models", "mlp,vit"), "unknown model 'vit'"),
        (("--datasets", "nope"), "unknown dataset 'nope'"),
        (("--datasets", ""), "--datasets is empty"),
        (("--set", "learning_rat=1"), "unknown setting"),
        (("--set", "learning_rate=fast"), "expected a valid number"),
        (("--set", "dropout=[0.1]"), "the mlp needs 2 rates"),
        (("--set", "learning_rate=0.1,1e-1"), "--set has a duplicate"),
        (("--set", "learning_rate=0.1..0.2"), "a range needs --trials"),
        (("--trials", "2", "--set", "learning_rate=0..0.2"), "expected greater than 0"),
        (("--trials", "2"), "--trials needs something to choose from"),
        (("--set", "epochs=1,2"), "--epochs and --set epochs exclude each other"),
        (("--seeds", "0-"), "neither a number nor a range"),
        (("--seeds", "0-60", "--recipes", "best,fast"), "this sweep has 122 trainings"),
        (("--name", "A b"), "expected up to 60 lowercase letters"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_starts(
    arguments: tuple[str, ...], message: str
) -> None:
    printed = call_digits(*SWEEP, *arguments)
    assert printed.exit_code == 2
    assert message in printed.stderr
    assert "starting Prefect's server" not in printed.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_optuna_proposes_settings_and_a_second_sweep_goes_on_with_its_study() -> None:
    pytest.importorskip("optuna")
    space = ("--set", "learning_rate=0.0001..0.01:log", "--set", "optimizer=adam,adamax")
    first = sweep_json(*space, "--trials", "3", "--parallel", "1")
    assert (len(first["trainings"]), num_trained(first)) == (3, 3)
    assert first["scored_on"] == "held-out images"
    rates = [variant["settings"]["learning_rate"] for variant in first["variants"]]
    assert all(0.0001 <= rate <= 0.01 for rate in rates)
    assert len(set(rates)) == 3

    more = sweep_json(*space, "--trials", "5", "--parallel", "1")
    assert (len(more["trainings"]), num_trained(more)) == (5, 2)
    assert more["name"] == first["name"]
    digests = {one["digest"] for one in more["trainings"]}
    assert {one["digest"] for one in first["trainings"]} <= digests


@pytest.mark.slow
def test_processes_of_ray_train_what_threads_then_find_in_the_cache(finished: Workspace) -> None:
    pytest.importorskip("prefect_ray")
    arguments = (*SWEEP, "--seeds", "0-2", "--json")
    # In a process of its own: Ray leaves threads behind.
    first = read_json(run_digits(finished.settings, *arguments, "--on", "ray"))
    assert [training["is_cached"] for training in first["trainings"]] == [True, False, False]

    second = sweep_json("--seeds", "0-2")

    assert num_trained(second) == 0
    assert [one["digest"] for one in second["trainings"]] == [
        one["digest"] for one in first["trainings"]
    ]


def add_dataset(workspace: Workspace, name: str, spec: str) -> None:
    """Add a dataset with the images of the small one."""
    write_spec(workspace.settings, spec, name)
    raw = workspace.settings.raw_dir
    shutil.copytree(raw / NAME, raw / name)
