"""Shared fixtures: workspaces apart from the checkout's data and artifacts."""

import gc
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hypothesis
import pytest

from digits.settings import Settings
from digits.storage.workspace import Workspace, current_workspace
from tests.support.server import Server, serving
from tests.support.small_dataset import write_small_dataset
from tests.support.trainings import Arrays, Training, prepare_arrays

# Make failures repeatable, even on a busy machine. `make test-properties` explores instead: it
# draws new examples each time, and remembers those that failed.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    # Ignore ~/.keras/keras.json, which could change the arithmetic; Keras reads it on import.
    folder = tempfile.TemporaryDirectory(prefix="keras-")
    config.add_cleanup(folder.cleanup)
    os.environ |= {
        "KERAS_HOME": folder.name,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # a developer's server gets no runs of tests
    # Prefect sends log lines from a thread of its own, whose requests are no lines of a test.
    logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt what the tests and libraries consist of from garbage collection: 700,000 objects.

    Looking through them again and again took a quarter of the collection of tests, and a tenth of
    the tests' own time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# Tests that take long together, longest first, by folder or file: they are started first, so that
# all cores finish at about the same time.
LONGEST = (
    *("flows", "serving", "tasks", "faults", "test_kills", "test_trainer", "test_proposal"),
    *("test_dataset_validation", "test_fuzz", "test_build", "test_damaged_inputs"),
    *("test_hostile_batches", "test_exporting", "test_garbage", "test_additions", "model"),
)
# Files and folders whose tests run in one process each, and what they share there: a Prefect server
# and a finished run, copies of the project, trained models, a service with its first run.
SHARED = {
    **dict.fromkeys(("tests/flows", "tests/tasks"), "server"),
    "tests/faults": "copies",
    "tests/model": "models",
    **dict.fromkeys(
        (
            *("tests/e2e/test_dashboard.py", "tests/e2e/test_hostile_pages.py"),
            *("tests/e2e/test_runs.py", "tests/e2e/test_service.py"),
        ),
        "service",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        names = (item.path.parent.name, item.path.stem)
        return min((LONGEST.index(name) for name in names if name in LONGEST), default=len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Use one process more than cores, since each sometimes waits for Prefect's server."""
    return (yield) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests that share fixtures in one process, to build these only once."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatIsShared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = Path(nodeid.partition("::")[0])
            return next(
                (name for place, name in SHARED.items() if path.is_relative_to(place)), str(path)
            )

    return ByWhatIsShared(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # For tests.faults; here, since the printing process may not load its conftest.
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    counts = Counter(
        (what, kind)
        for report in reports
        if getattr(report, "when", None) == "call"
        for what, kind in report.user_properties
        if what in ("tried", "held")
    )
    kinds = sorted({kind for _, kind in counts})
    if kinds:
        terminalreporter.section("faults: tried, withstood, failed")
    for kind in kinds:
        tried, held = counts["tried", kind], counts["held", kind]
        terminalreporter.write_line(f"{kind:10} {tried:5} {held:5} {tried - held:5}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with run-time folders below the test's own folder."""
    return Settings(data_dir=tmp_path / "data", artifacts_dir=tmp_path / "artifacts")


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    """An empty workspace."""
    return Workspace(settings)


@pytest.fixture
def small_dataset(settings: Settings) -> Settings:
    """The settings of a workspace with a small learnable dataset, `handwriting`."""
    write_small_dataset(settings)
    return settings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local web server, reached without a proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def small_arrays(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """The small dataset, ingested and normalized."""
    return prepare_arrays(tmp_path_factory.mktemp("arrays"))


@pytest.fixture(scope="session")
def trained(small_arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    """Both models, trained on the small dataset."""
    folder = tmp_path_factory.mktemp("trained")
    trainings = {
        model: Training.of(small_arrays, folder / model, model, epochs=5, batch_size=32)
        for model in ("mlp", "cnn")
    }
    for training in trainings.values():
        training.run()
    return trainings


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one real Prefect server with its own database, shared by all tests."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_HOME: tmp_path_factory.mktemp("prefect")}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def current(settings: Settings, prefect_api: str) -> Iterator[Workspace]:
    """The test's workspace as this process's workspace, and a server for its flows."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    values = settings.artifacts_dir / "cache" / "values"
    here = {
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
        "PREFECT_API_URL": prefect_api,
    }
    # This also removes what the command line adds to the environment.
    with patch.dict(os.environ, here), temporary_settings({PREFECT_LOCAL_STORAGE_PATH: values}):
        yield current_workspace()
