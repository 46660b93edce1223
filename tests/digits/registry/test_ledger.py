import json
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from digits.errors import DigitsError, LedgerError, UsageError
from digits.registry.ledger import (
    Ledger,
    all_ledgers,
    champion_of,
    find_version,
    standing_verdict,
    versions_of,
    withdrawn,
)
from digits.settings import Settings
from digits.storage.seals import seal
from tests.support.histories import (
    digest,
    keep,
    make_ledger,
    make_model,
    make_score,
    promote_next,
    promotion,
    write_history,
)
from tests.support.processes import kill, result_of, start, wait_for
from tests.support.small_dataset import NAME

DECIDER = """
import sys
from pathlib import Path
from tests.support.histories import keep, make_ledger, promote_next

ledger = make_ledger(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    with ledger.deciding() as deciding:
        entry = promote_next(deciding, f"{sys.argv[3]} {number}")
    print(entry.number, flush=True)
"""

# At each size at which the disk may be full.
DECIDER_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from digits.errors import DigitsError
from tests.support.histories import keep, make_ledger

ledger = make_ledger(Path(sys.argv[1]))
before, entries = ledger.path.read_bytes(), ledger.entries()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in range(len(before), len(before) + 2000):
    with ledger.deciding() as deciding:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            keep(deciding)
        except DigitsError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert "cannot be written: File too large; the champion is as it was" in str(error)
            assert ledger.path.read_bytes() == before
            assert ledger.entries() == deciding.entries == entries
        else:
            break
assert limit == ledger.path.stat().st_size
print(limit - len(before))
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make_ledger(tmp_path)


def compact(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def test_nothing_was_decided_in_the_beginning(ledger: Ledger) -> None:
    assert (ledger.entries(), ledger.versions(), ledger.champion()) == ([], {}, None)


def test_decisions_come_back_as_they_were_taken(ledger: Ledger) -> None:
    with ledger.deciding() as deciding:
        taken = [promote_next(deciding, "first"), keep(deciding), promote_next(deciding, "second")]

    assert ledger.entries() == taken
    assert [entry.number for entry in taken] == [1, 2, 3]
    assert {entry.dataset for entry in taken} == {NAME}


def test_the_champion_is_what_the_last_line_says(ledger: Ledger) -> None:
    write_history(ledger, "ppk")
    champion = ledger.champion()
    assert champion is not None
    assert champion.number == 2

    write_history(ledger, "1k")
    champion = ledger.champion()
    assert champion is not None
    assert (champion.number, champion.model) == (1, make_model("version 0"))
    assert set(ledger.versions()) == {1, 2}


def test_a_decision_sees_those_before_it(ledger: Ledger) -> None:
    write_history(ledger, "p")

    with ledger.deciding() as deciding:
        assert deciding.champion == ledger.champion()
        promote_next(deciding, "next")
        assert deciding.champion == ledger.champion()


@pytest.mark.faults
def test_decisions_of_two_processes_at_once_are_all_kept(ledger: Ledger, tmp_path: Path) -> None:
    deciders = [start(DECIDER, tmp_path, 20, name) for name in ("one", "other")]
    for decider in deciders:
        _, errors = decider.communicate()
        assert decider.returncode == 0, errors

    entries = ledger.entries()

    assert len(entries) == 40
    assert {entry.run for entry in entries} == {
        f"run {name} {number}" for name in ("one", "other") for number in range(20)
    }
    assert list(versions_of(entries)) == list(range(1, 41))


@pytest.mark.faults
def test_a_reader_never_sees_less_than_the_whole(ledger: Ledger, tmp_path: Path) -> None:
    decider = start(DECIDER, tmp_path, 100, "one")
    wait_for(decider, "1")
    seen = [0]
    while decider.poll() is None:
        seen.append(len(ledger.entries()))
    kill(decider)

    assert seen == sorted(seen)
    assert len(ledger.entries()) == 100


@pytest.mark.faults
def test_a_decider_killed_at_any_moment_loses_no_decision(ledger: Ledger, tmp_path: Path) -> None:
    moments, promised = random.Random(1), 0
    for attempt in range(6):
        decider = start(DECIDER, tmp_path, 10_000, attempt)
        wait_for(decider, str(len(ledger.entries()) + 1))
        time.sleep(moments.uniform(0, 0.05))
        decider.kill()
        output, _ = decider.communicate()
        promised = max([promised, *map(int, output.split())])

        assert len(ledger.entries()) >= promised
    with ledger.deciding() as deciding:
        keep(deciding)
    assert ledger.entries()[-1].verdict.outcome == "kept"


def test_a_decision_is_on_the_disk_before_it_counts(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        flushed.append((name, os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    write_history(ledger, "p")

    assert (ledger.path.name, ledger.path.stat().st_size) in flushed
    # The folder too, or a new file could be lost with its first line.
    assert ledger.path.parent.name in {name for name, _ in flushed}


@pytest.mark.faults
def test_a_full_disk_leaves_the_champion_as_it_was(ledger: Ledger, tmp_path: Path) -> None:
    write_history(ledger, "p")

    length = int(result_of(DECIDER_ON_A_FULL_DISK, tmp_path))

    assert length > 100
    assert [entry.verdict.outcome for entry in ledger.entries()] == ["promoted", "kept"]


def test_a_disk_that_cannot_be_written_is_a_clear_error() -> None:
    # Nobody, root included, can make a folder there.
    ledger = Ledger(NAME, Settings(artifacts_dir=Path("/sys/digits")))

    with (
        pytest.raises(DigitsError, match=r"/sys/digits/.* cannot be written: .*champion is as it"),
        ledger.deciding(),
    ):
        pass


def test_an_edited_reason_is_told_with_its_line_and_what_to_do(ledger: Ledger) -> None:
    write_history(ledger, "pkk")
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"no better", b"far better", 1))

    with pytest.raises(LedgerError) as caught:
        ledger.entries()

    assert str(caught.value) == (
        f"{ledger.path} line 2 was altered: its digest does not match it; nothing was changed; put "
        f"the file back from a copy, or, to begin a new history, move it and {NAME}.head aside"
    )


def test_nothing_is_decided_on_a_ledger_that_cannot_be_believed(ledger: Ledger) -> None:
    write_history(ledger, "pp")
    altered = ledger.path.read_bytes().replace(b"run version 0", b"run version 7")
    ledger.path.write_bytes(altered)

    with pytest.raises(LedgerError, match="line 1 was altered"), ledger.deciding():
        raise AssertionError

    assert ledger.path.read_bytes() == altered


@pytest.mark.parametrize("more", [{}, {"news": True}])
def test_a_newer_format_is_told_and_not_guessed(ledger: Ledger, more: dict[str, bool]) -> None:
    write_history(ledger, "pk")
    first, second = ledger.path.read_bytes().splitlines()
    fields = json.loads(second) | more | {"format": 3}
    del fields["digest"]
    previous = fields.pop("previous")
    ledger.path.write_bytes(first + b"\n" + seal(fields | {"previous": previous}) + b"\n")
    ledger.chain.head_path.unlink()

    with pytest.raises(LedgerError) as caught:
        ledger.entries()

    assert str(caught.value) == (
        f"{ledger.path} line 2 has format 3, this version of digits reads 2: use the "
        "version that wrote it"
    )


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"number": 1}, "says that it is line 1"),
    ({"number": "two"}, "is damaged: number: Input should be a valid integer"),
    ({"dataset": "mnist"}, f"is about mnist, not {NAME}"),
    ({"dataset": "../mnist"}, f"is about ../mnist, not {NAME}"),
    ({"time": "2026-01-01T00:00:00"}, "is damaged: time: "),
    ({"judgement": None}, "is damaged: judgement: "),
    ({"judgement": {"outcome": "crowned"}}, "is damaged: judgement.outcome: "),
    ({"judgement": {"champion_before": 2}}, "says that the champion was 2, but it was 1"),
    ({"judgement": {"champion_before": None}}, "says that the champion was None, but it was 1"),
    ({"judgement": {"champion_after": 3}}, "makes version 3 champion, which there is not"),
    ({"judgement": {"candidate_accuracy": 1e999}}, "is damaged"),
    ({"version": {"number": 3}}, "begins version 3, but 1 came before it"),
    ({"version": {"number": 1}}, "begins version 1, but 1 came before it"),
    ({"version": {"lineage": "../../elsewhere"}}, "is damaged: version.lineage: "),
    ({"version": {"model": {"digest": "../../elsewhere"}}}, "is damaged: version.model.digest: "),
    ({"more": 1}, "is damaged: more: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("changes", "problem"), CHANGES)
def test_a_line_that_cannot_be_is_refused_although_its_digest_is_right(
    ledger: Ledger, changes: dict[str, Any], problem: str
) -> None:
    write_history(ledger, "pp")
    lines = [json.loads(text) for text in ledger.path.read_bytes().splitlines()]
    changed = merged(lines[1], changes)
    del changed["digest"]
    previous = changed.pop("previous")
    first = ledger.path.read_bytes().splitlines()[0]
    ledger.path.write_bytes(first + b"\n" + seal(changed | {"previous": previous}) + b"\n")
    ledger.chain.head_path.unlink()

    with pytest.raises(LedgerError) as caught:
        ledger.entries()

    assert str(caught.value).startswith(f"{ledger.path} line 2 {problem}")


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(fields)
    for name, value in changes.items():
        is_part = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(both[name], value) if is_part else value
    return both


@pytest.mark.parametrize(
    "line",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 1_000_000, b'{"format":1,' + b'"a":[' * 10**5],
    ids=lambda line: repr(line[:20]),
)
def test_a_line_of_another_form_is_damage_and_no_crash(ledger: Ledger, line: bytes) -> None:
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_bytes(line + b"\n")

    with pytest.raises(LedgerError, match=r"line 1 (was altered|is damaged)"):
        ledger.entries()


def test_versions_are_numbered_as_they_became_champion(ledger: Ledger) -> None:
    entries = write_history(ledger, "pkp1p")

    assert {number: version.model for number, version in versions_of(entries).items()} == {
        1: make_model("version 0"),
        2: make_model("version 2"),
        3: make_model("version 4"),
    }


def test_a_champion_stands_by_the_judgement_that_first_made_it_one(ledger: Ledger) -> None:
    entries = write_history(ledger, "pp1k2")
    champion = champion_of(entries)

    assert champion is not None
    assert standing_verdict(entries, champion) == entries[1].verdict


@pytest.mark.parametrize(
    ("steps", "down"),
    [
        ("", set()),
        ("ppp", set()),
        ("pp1", {2}),
        ("ppk1k", {2}),
        # Going back over two promotions undoes both.
        ("ppp1", {2, 3}),
        ("ppp21", {2, 3}),
        # A later rollback puts a version back, and takes down the one that it replaces.
        ("pp12", {1}),
        ("ppp12", {1, 3}),
        ("ppp13", {1, 2}),
        ("pp1p", {2}),
        ("pp1p2", {3}),
    ],
)
def test_a_rollback_takes_down_what_was_promoted_since(
    ledger: Ledger, steps: str, down: set[int]
) -> None:
    entries = write_history(ledger, steps)

    taken_down = withdrawn(entries)

    numbers = {version.model.digest: number for number, version in versions_of(entries).items()}
    assert {numbers[model] for model in taken_down} == down
    assert {withdrawal.number for withdrawal in taken_down.values()} == down
    assert all(
        withdrawal.time in {e.time for e in entries if e.verdict.outcome == "rolled back"}
        for withdrawal in taken_down.values()
    )


def test_a_model_that_is_two_versions_is_up_while_one_of_them_is(ledger: Ledger) -> None:
    for number, text in enumerate(("same", "other", "same"), start=1):
        model = make_model(text)
        verdict, version = promotion(number, model, make_score(model, 90), number - 1 or None)
        with ledger.deciding() as deciding:
            deciding.append(verdict, run="run", data_digest=digest("d"), version=version)

    assert set(withdrawn(write_history(ledger, "1"))) == {make_model("other").digest}


def test_an_unknown_version_is_told_with_those_that_there_are(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=f"^{NAME} has no version 1: there is none yet$"):
        find_version(ledger.entries(), 1, NAME)
    with pytest.raises(UsageError, match=f"^{NAME} has no version 3: there is 1, 2$"):
        find_version(write_history(ledger, "pp"), 3, NAME)


def test_all_ledgers_are_those_with_lines_and_those_that_were_lost(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", artifacts_dir=tmp_path / "artifacts")
    assert all_ledgers(settings) == []
    for name in ("lost", "there"):
        write_history(make_ledger(tmp_path, name), "p")
    (tmp_path / "artifacts/ledger/there.head").unlink()
    (tmp_path / "artifacts/ledger/lost.jsonl").unlink()
    (tmp_path / "artifacts/ledger/there.jsonl.bak").touch()

    lost, there = all_ledgers(settings)

    assert (lost.dataset, there.dataset) == ("lost", "there")
    assert there.champion() is not None
    with pytest.raises(LedgerError, match="has 0 lines, but 1 were written"):
        lost.entries()
