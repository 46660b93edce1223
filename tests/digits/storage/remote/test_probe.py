from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from digits.errors import StoreError
from digits.settings import Settings
from digits.storage.remote import addresses
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.objects import Objects
from digits.storage.remote.probe import PROOF, passed, proof
from tests.support.careless_store import Store, careless_store

Connect = Callable[[Store, str], Objects]


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connect to a server as a machine of this name would."""
    for name, value in (("AWS_ACCESS_KEY_ID", "digits"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)

    def connect(server: Store, machine: str) -> Objects:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        settings = Settings(store="s3://team/x", cache_dir=tmp_path / machine, store_seconds=5)
        objects = objects_of(settings)
        assert objects is not None
        return objects

    return connect


@pytest.mark.parametrize("method", ["create", "write"])
def test_a_store_that_ignores_conditions_is_refused_before_anything_is_written(
    method: str, connect: Connect
) -> None:
    with careless_store() as server:
        objects = connect(server, "here")
        for _ in range(2):
            with pytest.raises(StoreError, match="8 of 8 writers created the same object at once"):
                getattr(objects, method)("ledger/mnist/00000001.json", b"{}")
        assert all("/probe/" in name for name in server.names)
        assert server.objects == {}


def test_a_store_that_heeds_them_is_probed_once_for_all_machines(
    connect: Connect,
) -> None:
    with careless_store(heeds_conditions=True) as server:
        objects = connect(server, "here")
        assert objects.create("a", b"1")
        assert objects.create("b", b"1")
        assert {"/team/x/a", "/team/x/b"} < set(server.objects)
        asked = len(server.names)
        connect(server, "there").write("c", b"1")
        assert server.names[asked:] == ["/team/x/c"]


@pytest.mark.parametrize("machine", ["here", "there"])
def test_it_is_probed_again_at_another_address(
    machine: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with careless_store(heeds_conditions=True) as server:
        connect(server, "here").write("a", b"1")
        asked = len(server.names)
        monkeypatch.setattr(type(server), "url", f"http://localhost:{server.server_port}")
        addresses._opened.cache_clear()  # as in another process
        connect(server, machine).write("b", b"1")
        assert any("/probe/" in name for name in server.names[asked:])


def test_a_proof_that_is_old_by_the_clock_of_the_store_does_not_count(
    connect: Connect,
) -> None:
    with careless_store(heeds_conditions=True) as server:
        connect(server, "here").write("a", b"1")
        asked = len(server.names)
        server.behind = timedelta(days=31)
        connect(server, "there").write("b", b"1")
        assert any("/probe/" in name for name in server.names[asked:])


def test_a_folder_is_probed_by_each_machine(tmp_path: Path) -> None:
    for machine in ("here", "there"):
        settings = Settings(store=f"file://{tmp_path}/store", cache_dir=tmp_path / machine)
        objects = objects_of(settings)
        assert objects is not None
        objects.write("a", b"1")
        assert passed(objects, settings.results_dir) is not None
    assert not (tmp_path / "store" / PROOF).exists()


@pytest.mark.parametrize(("days", "is_probed"), [(29, False), (31, True), (-31, True)])
def test_it_is_probed_again_after_a_month(
    days: int, is_probed: bool, connect: Connect, tmp_path: Path
) -> None:
    settings = Settings(store="s3://team/x", cache_dir=tmp_path / "here")
    settings.results_dir.mkdir(parents=True)
    then = datetime.now(UTC) - timedelta(days=days)
    with careless_store(heeds_conditions=True) as server:
        objects = connect(server, "here")
        (settings.results_dir / proof(objects)).write_text(then.isoformat())
        objects.create("a", b"1")
        assert any("/probe/" in name for name in server.names) == is_probed


def test_reading_needs_no_probe(connect: Connect) -> None:
    with careless_store() as server:
        assert connect(server, "here").read("a") is None
        assert server.names == []
