"""Three machines, a real S3 store, and a proxy in front of it that can fail."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster.team import Member, join
from tests.faults.commands import import_libraries, kill_those_left
from tests.support.faulty_proxy import Proxy, proxied
from tests.support.machines import Network, network, why_no_namespaces
from tests.support.object_store import ObjectStore, environment, object_store
from tests.support.prefect_server import prefect_server


def pytest_report_header() -> str:
    """Say what the machines of this run are."""
    why_not = why_no_namespaces()
    if why_not:
        return (
            f"machines: isolated homes and folders, since namespaces are not permitted: {why_not}"
        )
    return "machines: network namespaces on a bridge"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three machines that reach the host."""
    with network(tmp_path_factory.mktemp("lan"), 3) as machines:
        yield machines


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A running S3 server, for tests that use prefixes of their own."""
    with object_store(tmp_path_factory.mktemp("store") / "data") as store:
        yield store


@pytest.fixture
def proxy(bucket: ObjectStore, lan: Network) -> Iterator[Proxy]:
    """A proxy to the server, which all machines reach; it has no faults yet."""
    with proxied(bucket.port, lan.host) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def prefect(lan: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of commands on all machines: one Prefect server, and libraries loaded."""
    with prefect_server(tmp_path_factory.mktemp("prefect"), lan.host) as shared:
        import_libraries(shared)
        yield shared
        kill_those_left()


@pytest.fixture
def bare_team(lan: Network, proxy: Proxy, tmp_path: Path) -> Iterator[tuple[Member, ...]]:
    """Three machines with empty homes, an empty part of the store, and the small dataset."""
    shared = environment(proxy.address, prefix=tmp_path.name)
    members = tuple(join(machine, tmp_path, shared) for machine in lan.machines)
    yield members
    for member in members:
        member.end()


@pytest.fixture
def team(bare_team: tuple[Member, ...], prefect: Mapping[str, str]) -> tuple[Member, ...]:
    """The same with a Prefect server, for commands that start flows."""
    return tuple(
        replace(member, environment={**prefect, **member.environment}) for member in bare_team
    )
