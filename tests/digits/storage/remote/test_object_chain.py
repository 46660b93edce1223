import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digits.errors import LedgerError, LostRaceError
from digits.storage.chain import Chain, decided_anew
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.chain import chain_at
from tests.support.machines_of_a_team import machine, stored


def chain_of(folder: Path, name: str = "here") -> Chain:
    settings = machine(folder, name).settings
    return chain_at(settings.artifacts_dir / "unused", "ledger/numbers", settings)


def line(folder: Path, number: int) -> Path:
    return stored(folder, f"ledger/numbers/{number:08}.json")


def grow(chain: Chain, num_lines: int) -> None:
    for number in range(num_lines):
        chain.append({"number": number}, chain.read())


def test_machines_read_the_same_lines_and_no_local_file(tmp_path: Path) -> None:
    grow(chain_of(tmp_path), 3)
    grow(chain_of(tmp_path, "there"), 2)
    assert chain_of(tmp_path).read() == chain_of(tmp_path, "there").read()
    assert len(chain_of(tmp_path).read().lines) == 5
    assert not (tmp_path / "here" / "artifacts").exists()


def test_the_second_of_two_lines_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    here, there = chain_of(tmp_path), chain_of(tmp_path, "there")
    before = here.read()
    first = there.append({"who": "there"}, before)
    with pytest.raises(LostRaceError, match="another machine has added line 1"):
        here.append({"who": "here"}, before)
    assert here.read().lines == first.lines


def test_a_line_whose_answer_was_lost_is_recognized(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    before = chain.read()
    chain.append({"who": "here"}, before)
    assert len(chain.append({"who": "here"}, before).lines) == 1


def test_of_many_deciders_each_adds_its_line(tmp_path: Path) -> None:
    chains = [chain_of(tmp_path, f"machine {number}") for number in range(8)]

    def add(number: int) -> None:
        chain = chains[number % 8]
        decided_anew(lambda: chain.append({"number": number}, chain.read()))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    texts = [text for text, _ in chain_of(tmp_path).read().lines]
    found = sorted(int(text.split(b'"number":')[1].split(b",")[0]) for text in texts)
    assert found == list(range(40))


@pytest.mark.parametrize("name", ["here", "there"])
def test_an_altered_line_is_noticed_by_every_machine(name: str, tmp_path: Path) -> None:
    grow(chain_of(tmp_path), 3)
    path = line(tmp_path, 2)
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
    with pytest.raises(LedgerError, match=r"ledger/numbers line 2 is corrupted: .*; nothing was"):
        chain_of(tmp_path, name).read()


@pytest.mark.parametrize("name", ["here", "there"])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_line_is_noticed_by_every_machine(name: str, lost: int, tmp_path: Path) -> None:
    grow(chain_of(tmp_path), 3)
    line(tmp_path, lost).unlink()
    problem = "has 2 lines, but 3 were written" if lost == 3 else f"line {lost} is missing"
    with pytest.raises(LedgerError, match=problem):
        chain_of(tmp_path, name).read()


def test_a_lost_history_is_noticed_by_a_machine_that_has_seen_it(tmp_path: Path) -> None:
    grow(chain_of(tmp_path), 2)
    for path in stored(tmp_path, "ledger/numbers").iterdir():
        path.unlink()
    with pytest.raises(LedgerError, match="has 0 lines, but 2 were written"):
        chain_of(tmp_path).read()


def test_exchanged_lines_are_noticed(tmp_path: Path) -> None:
    grow(chain_of(tmp_path), 3)
    first, second = line(tmp_path, 1), line(tmp_path, 2)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    with pytest.raises(LedgerError, match="line 1 does not follow the previous line"):
        chain_of(tmp_path).read()


def test_a_corrupted_copy_on_this_machine_is_read_again(tmp_path: Path) -> None:
    grow(chain_of(tmp_path), 3)
    expected = chain_of(tmp_path).read()
    copies = list((tmp_path / "here" / "cache").rglob("mirror/ledger/numbers/*.json"))
    assert len(copies) == 3
    for copy in copies:
        copy.write_bytes(copy.read_bytes().replace(b'"number"', b'"nomber"'))
    assert chain_of(tmp_path).read() == expected


def test_unchanged_lines_are_read_from_the_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(tmp_path)
    grow(chain, 5)
    chain.read()
    objects = objects_of(machine(tmp_path, "here").settings)
    counted = itertools.count()
    read = type(objects).read
    monkeypatch.setattr(type(objects), "read", lambda *given: (next(counted), read(*given))[1])
    chain.read()
    assert next(counted) == 1  # the head


def test_a_new_line_changes_the_signature(tmp_path: Path) -> None:
    chain = chain_of(tmp_path)
    found = [chain.signature()]
    for _ in range(2):
        grow(chain, 1)
        found.append(chain.signature())
    assert len(set(found)) == 3
    assert chain_of(tmp_path, "there").signature() == found[-1]
