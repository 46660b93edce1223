from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from digits.settings import Settings
from tests.support.model_server import served
from tests.support.served_versions import promote_version, write_served_dataset


@pytest.fixture(scope="package")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server of two versions, for tests that change nothing: 1 says 3, and 2, the champion, 5."""
    folder = tmp_path_factory.mktemp("served")
    settings = Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts")
    write_served_dataset(settings)
    promote_version(settings, 3)
    promote_version(settings, 5)
    with served(settings) as client:
        yield client


@pytest.fixture
def served_dataset(settings: Settings) -> Settings:
    """The settings of a workspace with the spec of the small dataset, and no champion."""
    write_served_dataset(settings)
    return settings
