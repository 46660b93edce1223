"""A Prefect server and a process with the libraries loaded, shared by all fault tests."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.commands import import_libraries, kill_those_left
from tests.faults.project import Copy, copy_project
from tests.support.prefect_server import prefect_server
from tests.support.small_dataset import write_small_dataset


class Tally:
    """Counts the faults that a test tried, and those that the project withstood.

    The counts are properties of the test's report, so they arrive from any worker process.
    """

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    @contextlib.contextmanager
    def attempt(self, kind: str) -> Iterator[None]:
        """Count one fault, as withstood if the block succeeds."""
        self._properties.append(("tried", kind))
        yield
        self._properties.append(("held", kind))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """The fault counts of this test."""
    return Tally(request.node.user_properties)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables of a command, such as the URL of a Prefect server."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home) as shared:
        import_libraries(shared)
        yield shared
        kill_those_left()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Copy:
    """A copy of the project with the small dataset, before any run."""
    folder = tmp_path_factory.mktemp("pristine")
    copy = copy_project(folder, environment, ("--epochs", "1"))
    write_small_dataset(copy.settings)
    return copy


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory, pristine: Copy) -> Copy:
    """A copy of the project after a complete run. Tests work on duplicates of it."""
    copy = pristine.duplicate(tmp_path_factory.mktemp("complete"))
    copy.run()
    return copy


@pytest.fixture
def copy(complete: Copy, tmp_path: Path) -> Copy:
    """A copy of the project after a complete run, for this test only."""
    return complete.duplicate(tmp_path / "copy")
