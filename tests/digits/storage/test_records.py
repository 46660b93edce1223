import os
from typing import Any

import pytest

from digits.errors import DamagedError
from digits.storage.records import Record, Records, StepKey, canonical_digest
from digits.storage.references import ReportRef
from digits.storage.seals import seal
from digits.storage.workspace import Workspace
from tests.support.bytes import each_damage
from tests.support.small_dataset import small_layout

KEY = StepKey(
    step="report",
    inputs={"title": "Made-up handwriting"},
    code={"digits/report/page.py: write_report": "0" * 64},
    libraries={"python": "3.11"},
)


def other_key(title: str, step: str = "report") -> StepKey:
    return KEY.model_copy(update={"step": step, "inputs": {"title": title}})


def store_page(workspace: Workspace, text: str = "page") -> ReportRef:
    with workspace.store.create("reports") as draft:
        (draft.path / "report.html").write_text(text)
    return ReportRef(digest=draft.digest, made_by=KEY.digest)


def record(workspace: Workspace, key: StepKey = KEY) -> Record:
    workspace.records.write(key, store_page(workspace), run_id="0-1", run_name="a run")
    read = workspace.records.read(key.digest)
    assert read is not None
    return read


@pytest.fixture
def records(workspace: Workspace) -> Records:
    return workspace.records


def plant(workspace: Workspace, under: str = KEY.digest, **changes: Any) -> None:
    """Write a record with a valid digest, as an attacker who knows the format could."""
    fields = record(workspace).model_dump(mode="json") | changes
    workspace.records.path(under).write_bytes(seal(fields))


def assert_damaged(records: Records, match: str, key: str = KEY.digest) -> None:
    with pytest.raises(DamagedError, match=match):
        records.read(key)


def test_a_record_is_read_back_unchanged(workspace: Workspace) -> None:
    reference = store_page(workspace)
    workspace.records.write(KEY, reference, run_id="0-1", run_name="a run")

    read = workspace.records.verified(KEY.digest)

    assert read is not None
    assert (read.key, read.reference, read.run_id, read.run_name) == (
        KEY,
        reference,
        "0-1",
        "a run",
    )


def test_an_unknown_key_has_no_record(records: Records) -> None:
    assert records.read("0" * 64) is None
    assert records.verified("0" * 64) is None
    assert list(records.all()) == []


def test_a_key_without_variables_has_the_digest_from_before_they_were_part_of_it() -> None:
    fields = ("step", "inputs", "code", "libraries")

    assert KEY.digest == canonical_digest({name: getattr(KEY, name) for name in fields})


def test_every_part_of_a_key_changes_its_digest() -> None:
    changes: list[dict[str, Any]] = [
        {"step": "train"},
        {"inputs": {}},
        {"code": {}},
        {"variables": {"TF_ENABLE_ONEDNN_OPTS": "0"}},
        {"libraries": {"python": "3.12"}},
    ]
    digests = {KEY.digest, *(KEY.model_copy(update=change).digest for change in changes)}

    assert len(digests) == 1 + len(changes)


def test_the_order_of_inputs_does_not_change_the_digest() -> None:
    one = KEY.model_copy(update={"inputs": {"a": 1, "b": {"c": 2, "d": 3}}})
    other = KEY.model_copy(update={"inputs": {"b": {"d": 3, "c": 2}, "a": 1}})

    assert one.digest == other.digest


@pytest.mark.faults
def test_every_flipped_bit_and_every_truncation_is_detected(workspace: Workspace) -> None:
    record(workspace)
    for _ in each_damage(workspace.records.path(KEY.digest)):
        assert_damaged(workspace.records, "is corrupted")
    assert workspace.records.verified(KEY.digest) is not None


@pytest.mark.faults
def test_a_record_is_not_trusted_when_its_bundle_is_damaged(workspace: Workspace) -> None:
    path = workspace.store.folder(record(workspace).reference) / "report.html"
    path.write_text("pages")

    with pytest.raises(DamagedError, match=r"report\.html has 5 bytes"):
        workspace.records.verified(KEY.digest)

    path.unlink()
    with pytest.raises(DamagedError, match=r"report\.html cannot be read"):
        workspace.records.verified(KEY.digest)


def test_a_record_under_another_key_is_refused(workspace: Workspace) -> None:
    plant(workspace, under="1" * 64)

    assert_damaged(workspace.records, "contains the record of another key", "1" * 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": {"__class__": "os.system", "digest": "0" * 64}},
        {"value": {"digest": "0" * 64, "serializer": {"type": "pickle"}}},
        {"value": {"digest": "../../../../etc/passwd"}},
        {"value": {"digest": "0" * 64, "made_by": "../../elsewhere"}},
        {"value": {"digest": "0" * 64, "layout": small_layout().model_dump(mode="json")}},
        {"value": {}},
        {"value": []},
        {"serializer": {"type": "pickle"}},
        {"format": 2},
        {"created": "yesterday"},
        {"created": "2026-01-01T00:00:00"},
        {"key": {"step": "report"}},
        {"key": KEY.model_dump() | {"step": "promote"}},
        {"key": KEY.model_dump() | {"code": {"a": 1}}},
    ],
)
def test_a_planted_malformed_record_is_refused(
    workspace: Workspace, changes: dict[str, Any]
) -> None:
    plant(workspace, **changes)

    assert_damaged(workspace.records, "is not a valid cache record|unknown step 'promote'")


def test_a_record_can_only_contain_its_steps_result_type(workspace: Workspace) -> None:
    key = other_key("as a model", step="train")
    plant(workspace, under=key.digest, key=key.model_dump())

    assert_damaged(workspace.records, "is not a valid cache record", key.digest)


NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
CONTENTS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"digest"',
    b"\xff\xfe",
    b"9" * 100_000,
    b"[" * 1_000_000,
    seal({}),
    seal({"record": {}}),
    NESTED,
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: repr(content[:20]))
def test_a_malformed_file_is_reported_as_damage(workspace: Workspace, content: bytes) -> None:
    record(workspace)
    workspace.records.path(KEY.digest).write_bytes(content)

    assert_damaged(workspace.records, KEY.digest)


@pytest.mark.parametrize("key", ["", "..", "../../ledger/mnist", "/etc/passwd", "0" * 63, "A" * 64])
def test_only_a_digest_is_accepted_as_a_key(workspace: Workspace, key: str) -> None:
    path = workspace.records.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text("{}")

    assert workspace.records.read(key) is None


def test_a_folder_in_place_of_a_record_is_reported_as_damage(workspace: Workspace) -> None:
    workspace.records.path(KEY.digest).mkdir(parents=True)

    assert_damaged(workspace.records, "cannot be read: Is a directory")


def test_records_are_sorted_by_last_use(workspace: Workspace) -> None:
    keys = [other_key(title) for title in "abc"]
    for age, key in enumerate(keys):
        record(workspace, key)
        os.utime(workspace.records.path(key.digest), (10**9 - age, 10**9 - age))

    assert [read.key for read in workspace.records.all()] == keys
    workspace.records.verified(keys[2].digest)
    assert [read.key for read in workspace.records.all()] == [keys[2], keys[0], keys[1]]


def test_reading_a_record_does_not_mark_it_as_used(workspace: Workspace) -> None:
    record(workspace)
    path = workspace.records.path(KEY.digest)
    os.utime(path, (10**9, 10**9))

    workspace.records.read(KEY.digest)

    assert path.stat().st_mtime == 10**9


def test_damaged_records_are_skipped_in_listings(workspace: Workspace) -> None:
    record(workspace)
    broken = record(workspace, other_key("broken"))
    workspace.records.path(broken.key.digest).write_bytes(b"{}")
    (workspace.records.root / "notes.json").write_text("{}")

    assert [read.key for read in workspace.records.all()] == [KEY]


def test_records_can_be_filtered_by_step(workspace: Workspace) -> None:
    record(workspace)

    assert [read.key for read in workspace.records.of_step("report")] == [KEY]
    assert list(workspace.records.of_step("train")) == []
