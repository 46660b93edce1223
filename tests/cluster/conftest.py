"""Three machines, a real S3 store, and a proxy in front of it that can fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_proxy import Proxy, proxied
from tests.support.machines import Network, network, why_no_namespaces
from tests.support.object_store import ObjectStore, object_store


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
