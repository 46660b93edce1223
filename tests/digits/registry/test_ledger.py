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

# Try every size at which the disk may be full.
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
            assert "cannot be written: File too large; the champion is unchanged" in str(error)
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


def test_a_new_ledger_has_no_decisions(ledger: Ledger) -> None:
    assert (ledger.entries(), ledger.versions(), ledger.champion()) == ([], {}, None)


def test_decisions_are_read_back_unchanged(ledger: Ledger) -> None:
    with ledger.deciding() as deciding:
        taken = [promote_next(deciding, "first"), keep(deciding), promote_next(deciding, "second")]

    assert ledger.entries() == taken
    assert [entry.number for entry in taken] == [1, 2, 3]
    assert {entry.dataset for entry in taken} == {NAME}


def test_the_last_line_determines_the_champion(ledger: Ledger) -> None:
    write_history(ledger, "ppk")
    champion = ledger.champion()
    assert champion is not None
    assert champion.number == 2

    write_history(ledger, "1k")
    champion = ledger.champion()
    assert champion is not None
    assert (champion.number, champion.model) == (1, make_model("version 0"))
    assert set(ledger.versions()) == {1, 2}


def test_a_decision_sees_earlier_ones(ledger: Ledger) -> None:
    write_history(ledger, "p")

    with ledger.deciding() as deciding:
        assert deciding.champion == ledger.champion()
        promote_next(deciding, "next")
        assert deciding.champion == ledger.champion()


@pytest.mark.faults
def test_concurrent_decisions_of_two_processes_are_all_kept(ledger: Ledger, tmp_path: Path) -> None:
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
def test_a_reader_never_sees_fewer_decisions_than_before(ledger: Ledger, tmp_path: Path) -> None:
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


def test_a_decision_is_flushed_to_disk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[str, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        flushed.append((name, os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    write_history(ledger, "p")

    assert (ledger.path.name, ledger.path.stat().st_size) in flushed
    # The folder must be flushed too, or a new file could be lost with its first line.
    assert ledger.path.parent.name in {name for name, _ in flushed}


@pytest.mark.faults
def test_a_full_disk_leaves_the_champion_unchanged(ledger: Ledger, tmp_path: Path) -> None:
    write_history(ledger, "p")

    length = int(result_of(DECIDER_ON_A_FULL_DISK, tmp_path))

    assert length > 100
    assert [entry.verdict.outcome for entry in ledger.entries()] == ["promoted", "kept"]


def test_an_unwritable_disk_gives_a_clear_error() -> None:
    # Nobody, not even root, can create a folder there.
    ledger = Ledger(NAME, Settings(artifacts_dir=Path("/sys/digits")))

    with (
        pytest.raises(DigitsError, match=r"/sys/digits/.* cannot be written: .*champion is unch"),
        ledger.deciding(),
    ):
        pass


def test_an_edited_reason_is_reported_with_its_line_and_what_to_do(ledger: Ledger) -> None:
    write_history(ledger, "pkk")
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"no better", b"far better", 1))

    with pytest.raises(LedgerError) as caught:
        ledger.entries()

    assert str(caught.value) == (
        f"{ledger.path} line 2 is corrupted: its digest does not match; nothing was changed; "
        f"restore the file from a backup, or move it and {NAME}.head away to start a new history"
    )


def test_nothing_is_decided_with_a_corrupted_ledger(ledger: Ledger) -> None:
    write_history(ledger, "pp")
    altered = ledger.path.read_bytes().replace(b"run version 0", b"run version 7")
    ledger.path.write_bytes(altered)

    with pytest.raises(LedgerError, match="line 1 is corrupted"), ledger.deciding():
        raise AssertionError

    assert ledger.path.read_bytes() == altered


@pytest.mark.parametrize("more", [{}, {"news": True}])
def test_a_newer_format_is_refused(ledger: Ledger, more: dict[str, bool]) -> None:
    write_history(ledger, "pk")
    first, second = ledger.path.read_bytes().splitlines()
    fields = json.loads(second) | more | {"format": 4}
    del fields["digest"]
    previous = fields.pop("previous")
    ledger.path.write_bytes(first + b"\n" + seal(fields | {"previous": previous}) + b"\n")
    ledger.path.with_suffix(".head").unlink()

    with pytest.raises(LedgerError) as caught:
        ledger.entries()

    assert str(caught.value) == (
        f"{ledger.path} line 2 has format 4 (this version of digits reads 2 and 3); use the "
        "version that wrote it"
    )


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"number": 1}, "is numbered 1"),
    ({"number": "two"}, "is invalid: number: Input should be a valid integer"),
    ({"dataset": "mnist"}, f"belongs to mnist (expected {NAME})"),
    ({"dataset": "../mnist"}, f"belongs to ../mnist (expected {NAME})"),
    ({"time": "2026-01-01T00:00:00"}, "is invalid: time: "),
    ({"judgement": None}, "is invalid: judgement: "),
    ({"judgement": {"outcome": "crowned"}}, "is invalid: judgement.outcome: "),
    ({"judgement": {"champion_before": 2}}, "says the previous champion was 2 (expected 1)"),
    ({"judgement": {"champion_before": None}}, "says the previous champion was None (expected 1)"),
    ({"judgement": {"champion_after": 3}}, "promotes version 3, which does not exist"),
    ({"judgement": {"candidate_accuracy": 1e999}}, "is invalid"),
    ({"version": {"number": 3}}, "adds version 3 (expected 2)"),
    ({"version": {"number": 1}}, "adds version 1 (expected 2)"),
    ({"version": {"lineage": "../../elsewhere"}}, "is invalid: version.lineage: "),
    ({"version": {"model": {"digest": "../../elsewhere"}}}, "is invalid: version.model.digest: "),
    ({"more": 1}, "is invalid: more: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("changes", "problem"), CHANGES)
def test_an_invalid_line_is_refused_even_with_a_correct_digest(
    ledger: Ledger, changes: dict[str, Any], problem: str
) -> None:
    write_history(ledger, "pp")
    lines = [json.loads(text) for text in ledger.path.read_bytes().splitlines()]
    changed = merged(lines[1], changes)
    del changed["digest"]
    previous = changed.pop("previous")
    first = ledger.path.read_bytes().splitlines()[0]
    ledger.path.write_bytes(first + b"\n" + seal(changed | {"previous": previous}) + b"\n")
    ledger.path.with_suffix(".head").unlink()

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
def test_a_malformed_line_is_reported_as_damage(ledger: Ledger, line: bytes) -> None:
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_bytes(line + b"\n")

    with pytest.raises(LedgerError, match=r"line 1 (is corrupted|is invalid)"):
        ledger.entries()


def test_versions_are_numbered_in_order_of_promotion(ledger: Ledger) -> None:
    entries = write_history(ledger, "pkp1p")

    assert {number: version.model for number, version in versions_of(entries).items()} == {
        1: make_model("version 0"),
        2: make_model("version 2"),
        3: make_model("version 4"),
    }


def test_the_standing_verdict_is_the_one_that_first_promoted_the_champion(ledger: Ledger) -> None:
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
        # Rolling back over two promotions undoes both.
        ("ppp1", {2, 3}),
        ("ppp21", {2, 3}),
        # A later rollback restores a version and withdraws the one it replaces.
        ("pp12", {1}),
        ("ppp12", {1, 3}),
        ("ppp13", {1, 2}),
        ("pp1p", {2}),
        ("pp1p2", {3}),
    ],
)
def test_a_rollback_withdraws_later_promotions(ledger: Ledger, steps: str, down: set[int]) -> None:
    entries = write_history(ledger, steps)

    withdrawals = withdrawn(entries)

    numbers = {version.model.digest: number for number, version in versions_of(entries).items()}
    assert {numbers[model] for model in withdrawals} == down
    assert {withdrawal.number for withdrawal in withdrawals.values()} == down
    assert all(
        withdrawal.time in {e.time for e in entries if e.verdict.outcome == "rolled back"}
        for withdrawal in withdrawals.values()
    )


def test_a_model_with_two_versions_is_not_withdrawn_while_one_remains(ledger: Ledger) -> None:
    for number, text in enumerate(("same", "other", "same"), start=1):
        model = make_model(text)
        verdict, version = promotion(number, model, make_score(model, 90), number - 1 or None)
        with ledger.deciding() as deciding:
            deciding.append(verdict, run="run", data_digest=digest("d"), version=version)

    assert set(withdrawn(write_history(ledger, "1"))) == {make_model("other").digest}


def test_an_unknown_version_is_reported_with_the_known_ones(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=rf"^{NAME} has no version 1 \(versions: none yet\)$"):
        find_version(ledger.entries(), 1, NAME)
    with pytest.raises(UsageError, match=rf"^{NAME} has no version 3 \(versions: 1, 2\)$"):
        find_version(write_history(ledger, "pp"), 3, NAME)


def test_all_ledgers_include_those_whose_file_is_missing(tmp_path: Path) -> None:
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
