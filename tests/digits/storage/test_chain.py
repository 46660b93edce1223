import json
import os
from itertools import combinations
from pathlib import Path

import pytest

from digits.errors import LedgerError
from digits.storage.chain import FileChain, Lines
from digits.storage.seals import seal
from tests.support.bytes import each_damage

UNSEALED = b'{"format":1,"number":1,"text":"one"}'


@pytest.fixture
def chain(tmp_path: Path) -> FileChain:
    return FileChain(tmp_path / "ledger" / "numbers.jsonl")


def grow(chain: FileChain, num_lines: int) -> Lines:
    lines = chain.read()
    for _ in range(num_lines):
        lines = chain.append({"format": 2, "number": len(lines.lines) + 1}, lines)
    return lines


def texts(chain: FileChain) -> list[bytes]:
    return chain.path.read_bytes().splitlines()


def write(chain: FileChain, lines: list[bytes]) -> None:
    chain.path.parent.mkdir(exist_ok=True)
    chain.path.write_bytes(b"".join(line + b"\n" for line in lines))


def assert_refused(chain: FileChain, match: str) -> None:
    before = chain.path.read_bytes() if chain.path.exists() else None
    with pytest.raises(LedgerError, match=match) as caught:
        chain.read()
    message = str(caught.value)
    assert "restore the file from a backup" in message or "then delete numbers.head" in message
    assert before == (chain.path.read_bytes() if chain.path.exists() else None)


def test_an_empty_chain_has_no_lines(chain: FileChain) -> None:
    assert chain.read() == Lines([], 0)


def test_lines_come_back_in_order(chain: FileChain) -> None:
    written = grow(chain, 3)

    assert chain.read() == written
    assert [json.loads(line.text)["number"] for line in written.lines] == [1, 2, 3]


def test_each_line_names_the_previous_one(chain: FileChain) -> None:
    grow(chain, 3)

    lines = [json.loads(text) for text in texts(chain)]

    assert [line["previous"] for line in lines] == ["", lines[0]["digest"], lines[1]["digest"]]


@pytest.mark.faults
def test_every_flipped_bit_and_every_truncation_is_detected(chain: FileChain) -> None:
    whole = grow(chain, 3)

    for path in (chain.path, chain.head_path):
        for _ in each_damage(path):
            try:
                lines = chain.read()
            except LedgerError:
                continue
            # Any extra bytes have no line break and are ignored.
            assert lines == whole
            assert chain.path.stat().st_size > whole.size
    assert chain.read() == whole


def test_the_invalid_line_is_named(chain: FileChain) -> None:
    grow(chain, 5)
    whole = texts(chain)

    for number in range(1, 6):
        lines = list(whole)
        lines[number - 1] = lines[number - 1].replace(b'"format":2', b'"format":3')
        write(chain, lines)

        assert_refused(chain, rf"numbers\.jsonl line {number} is corrupted")


@pytest.mark.parametrize("gone", [(1,), (2,), (3,), (2, 3), (1, 2, 3)])
def test_removed_lines_are_detected(chain: FileChain, gone: tuple[int, ...]) -> None:
    grow(chain, 4)
    write(chain, [text for number, text in enumerate(texts(chain), 1) if number not in gone])

    assert_refused(chain, f"line {gone[0]} does not follow the previous line")


@pytest.mark.parametrize("num_left", [0, 1, 2, 3])
def test_missing_lines_at_the_end_are_detected(chain: FileChain, num_left: int) -> None:
    grow(chain, 4)
    write(chain, texts(chain)[:num_left])

    assert_refused(chain, f"has {num_left} lines, but 4 were written")


def test_a_missing_file_is_detected(chain: FileChain) -> None:
    grow(chain, 2)
    chain.path.unlink()

    assert_refused(chain, "has 0 lines, but 2 were written")


def test_a_truncation_in_any_line_is_detected(chain: FileChain) -> None:
    grow(chain, 2)
    first = len(texts(chain)[0]) + 1

    for length in reversed(range(chain.path.stat().st_size)):
        os.truncate(chain.path, length)
        assert_refused(chain, f"has {0 if length < first else 1} lines, but 2 were written")


def test_moved_lines_are_detected(chain: FileChain) -> None:
    grow(chain, 4)
    whole = texts(chain)

    for one, other in combinations(range(4), 2):
        lines = list(whole)
        lines[one], lines[other] = lines[other], lines[one]
        write(chain, lines)

        assert_refused(chain, f"line {one + 1} does not follow the previous line")


def test_an_added_line_is_detected(chain: FileChain) -> None:
    grow(chain, 3)
    whole = texts(chain)

    for number in range(1, 5):
        for added in (whole[0], seal({"format": 2, "number": number, "previous": ""}), b"", b"{}"):
            write(chain, [*whole[: number - 1], added, *whole[number - 1 :]])

            assert_refused(chain, rf"line {2 if (number, added) == (1, whole[0]) else number} ")


def test_a_replaced_history_is_detected(chain: FileChain, tmp_path: Path) -> None:
    grow(chain, 2)
    other = FileChain(tmp_path / "other.jsonl")
    lines = other.append({"format": 2, "number": 7}, other.read())
    other.append({"format": 2, "number": 8}, lines)
    chain.path.write_bytes(other.path.read_bytes())

    assert_refused(chain, r"line 2 does not match the digest in numbers\.head")


def test_a_complete_backup_can_be_restored(chain: FileChain) -> None:
    lines = grow(chain, 3)
    copy = chain.path.read_bytes()
    chain.path.unlink()

    chain.path.write_bytes(copy)

    assert chain.read() == lines


def test_remaining_lines_can_be_accepted_by_deleting_the_head(chain: FileChain) -> None:
    grow(chain, 3)
    write(chain, texts(chain)[:2])
    chain.head_path.unlink()

    assert len(chain.read().lines) == 2
    assert len(grow(chain, 1).lines) == 3


@pytest.mark.faults
def test_an_incomplete_line_is_ignored_and_removed_by_the_next_append(
    chain: FileChain, caplog: pytest.LogCaptureFixture
) -> None:
    before = grow(chain, 2)
    head = chain.head_path.read_bytes()
    grow(chain, 1)
    whole, next_line = chain.path.read_bytes(), texts(chain)[2]

    # Points at which the writer of line 3 may have been killed.
    for length in (*range(0, len(next_line), 7), len(next_line)):
        chain.path.write_bytes(whole[: before.size + length])
        chain.head_path.write_bytes(head)
        caplog.clear()

        assert chain.read() == before
        chain.append({"format": 2, "number": 3}, chain.read())

        assert chain.path.read_bytes() == whole
        assert caplog.messages == [
            f"{chain.path}: removed an incomplete line left by a killed run"
        ] * (length > 0)


def test_a_line_counts_before_the_head_is_written(chain: FileChain) -> None:
    grow(chain, 1)
    head = chain.head_path.read_bytes()
    lines = grow(chain, 1)

    # Killed between the line and the head.
    chain.head_path.write_bytes(head)

    assert chain.read() == lines
    grow(chain, 1)
    write(chain, texts(chain)[:2])
    assert_refused(chain, "has 2 lines, but 3 were written")


def test_a_line_appended_during_a_read_is_not_reported_as_damage(
    chain: FileChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(chain, 2)
    read_bytes, others = Path.read_bytes, []

    def followed_by_an_append(path: Path) -> bytes:
        content = read_bytes(path)
        if not others:
            others.append(path)
            grow(FileChain(chain.path), 1)
        return content

    monkeypatch.setattr(Path, "read_bytes", followed_by_an_append)

    assert len(chain.read().lines) in {2, 3}


def test_other_line_separators_do_not_split_a_line(chain: FileChain) -> None:
    lines = chain.read()
    lines = chain.append({"format": 2, "text": "a\r\nb\u2028c\x0bd\x85e"}, lines)
    grow(chain, 1)
    assert len(chain.read().lines) == 2

    chain.path.write_bytes(chain.path.read_bytes().replace(b"\n", b"\r\n"))

    assert_refused(chain, "line 1 is corrupted")


@pytest.mark.parametrize("before", [0, 2])
def test_a_line_without_a_digest_is_refused(chain: FileChain, before: int) -> None:
    if before:
        grow(chain, before)
        chain.head_path.unlink()
    write(chain, [*(texts(chain) if before else []), UNSEALED])

    assert_refused(chain, f"line {before + 1} is corrupted: its digest does not match")


@pytest.mark.parametrize("content", [b"", b"{}", seal({}), seal({"number": 0, "line": "0" * 64})])
def test_a_corrupted_head_is_reported(chain: FileChain, content: bytes) -> None:
    grow(chain, 1)
    chain.head_path.write_bytes(content)

    assert_refused(chain, r"numbers\.head is corrupted")


def test_an_unreadable_file_is_reported(chain: FileChain) -> None:
    chain.path.mkdir(parents=True)
    with pytest.raises(LedgerError, match="cannot be read: Is a directory"):
        chain.read()
    chain.path.rmdir()
    chain.head_path.mkdir()
    with pytest.raises(LedgerError, match="cannot be read: Is a directory"):
        chain.read()
