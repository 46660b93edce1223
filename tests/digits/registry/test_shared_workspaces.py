"""Runs of several machines on one store."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digits.errors import DamagedError, LedgerError
from digits.registry.history import roll_back
from digits.registry.ledger import Ledger, all_ledgers
from digits.storage.lineage import read_lineage
from tests.support.histories import store_form
from tests.support.machines_of_a_team import machine, stored
from tests.support.runs import Run
from tests.support.small_dataset import NAME

NUM_STEPS = 10


def test_another_machine_runs_nothing_again(tmp_path: Path) -> None:
    first = Run(machine(tmp_path, "here"))
    first.run()
    assert len(first.executed) == NUM_STEPS
    second = Run(machine(tmp_path, "there"))
    assert second.run().entry.verdict.outcome == "unchanged"
    assert not second.executed


def test_champion_and_lineage_are_the_same_everywhere(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    entry = Run(here).run().entry
    assert [ledger.dataset for ledger in all_ledgers(there.settings)] == [NAME]
    assert Ledger(NAME, there.settings).entries() == [entry]
    assert entry.version is not None
    assert read_lineage(entry.version.lineage, there.store).keys() >= {"train cnn", "ingest"}


def test_a_rollback_on_one_machine_holds_on_the_other(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    Run(here, code="worse", wrong=30).run()
    Run(there, code="better", wrong=20).run()
    roll_back(NAME, None, "a rollback", here, lambda model, _: store_form(here, model))
    champion = Ledger(NAME, there.settings).champion()
    assert champion is not None
    assert champion.number == 1
    # The version that was rolled back is not promoted again, wherever it is made.
    assert Run(there, code="better", wrong=20).run().entry.verdict.outcome == "kept"


def test_runs_of_many_machines_at_once_lose_no_decision(tmp_path: Path) -> None:
    def run(number: int) -> None:
        Run(machine(tmp_path, f"machine {number}"), code=f"code {number}", wrong=60 - number).run()

    def run_until_decided(number: int) -> None:
        # As the pipeline does when another machine was first.
        while True:
            try:
                return run(number)
            except AssertionError:
                continue

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(run_until_decided, range(12)))
    entries = Ledger(NAME, machine(tmp_path, "last").settings).entries()
    assert len(entries) == 12
    scores = [entry.version.evaluation.accuracy for entry in entries if entry.version]
    assert scores == sorted(scores)  # each promotion is an improvement
    assert scores[-1] == pytest.approx(0.52)  # the best of all is the champion


def test_a_record_whose_bundle_the_store_has_lost_is_not_believed(tmp_path: Path) -> None:
    first = Run(machine(tmp_path, "here"))
    first.run()
    lost = first.made["train cnn"].digest
    for path in stored(tmp_path, f"models/{lost}").iterdir():
        path.unlink()
    with pytest.raises(DamagedError, match=f"models/{lost}/manifest.json is missing"):
        Run(machine(tmp_path, "there")).run()


def test_an_altered_ledger_promotes_nothing_on_any_machine(tmp_path: Path) -> None:
    Run(machine(tmp_path, "here"), wrong=30).run()
    line = stored(tmp_path, f"ledger/{NAME}/00000001.json")
    line.write_bytes(line.read_bytes().replace(b'"promoted"', b'"Promoted"'))
    for name in ("here", "there"):
        with pytest.raises(LedgerError, match=f"ledger/{NAME} line 1 is corrupted"):
            Run(machine(tmp_path, name), code=name, wrong=10).run()
    assert len(list(stored(tmp_path, f"ledger/{NAME}").glob("0*.json"))) == 1
