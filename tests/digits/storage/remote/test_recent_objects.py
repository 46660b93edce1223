"""Objects that a process has just read, and need not ask for again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import S3Store

from digits.storage.remote import objects as remote_objects
from digits.storage.remote.mirror import Mirror
from digits.storage.remote.objects import Objects
from tests.support.careless_store import Store, careless_store


@pytest.fixture
def server() -> Iterator[Store]:
    with careless_store(heeds_conditions=True) as server:
        yield server


@pytest.fixture
def objects(server: Store, tmp_path: Path) -> Objects:
    store = S3Store(
        "team",
        endpoint=server.url,
        access_key_id="digits",
        secret_access_key="secret",
        client_options={"allow_http": True},
    )
    return Objects(store, "s3://team", Mirror(tmp_path))


def content(objects: Objects, name: str) -> bytes | None:
    found = objects.recent(name)
    return None if found is None else found.content


def test_an_object_is_asked_for_once_a_minute(
    objects: Objects, server: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.write("a", b"1")
    assert [content(objects, "a") for _ in range(3)] == [b"1"] * 3
    assert len(server.asked) == 1
    monkeypatch.setattr(remote_objects, "RECENT_SECONDS", 0)
    assert content(objects, "a") == b"1"
    assert len(server.asked) == 2


def test_what_this_process_writes_or_deletes_is_seen_at_once(objects: Objects) -> None:
    objects.write("a", b"1")
    assert content(objects, "a") == b"1"
    objects.write("a", b"2")
    assert content(objects, "a") == b"2"
    objects.delete(["a"])
    assert content(objects, "a") is None
    assert objects.create("a", b"3")
    assert content(objects, "a") == b"3"


def test_what_it_creates_replaces_what_another_machine_has_deleted(
    objects: Objects, server: Store
) -> None:
    objects.write("a", b"1")
    assert content(objects, "a") == b"1"
    server.objects.clear()
    assert objects.create("a", b"2")
    assert content(objects, "a") == b"2"


def test_reading_without_this_always_asks(objects: Objects, server: Store) -> None:
    objects.write("a", b"1")
    content(objects, "a")
    server.objects["/team/a"] = b"by another machine"
    found = objects.read("a")
    assert found is not None
    assert found.content == b"by another machine"
    assert content(objects, "a") == b"by another machine"


def test_few_objects_are_remembered(
    objects: Objects, server: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_objects, "NUM_RECENT", 2)
    for name in "abc":
        objects.write(name, b"1")
    for name in "abc":
        content(objects, name)
    server.asked.clear()
    for name in "bca":
        content(objects, name)
    assert server.asked == ["/team/a"]
