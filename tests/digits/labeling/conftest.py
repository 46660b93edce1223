import pytest

from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.champions import crown
from tests.support.small_dataset import NAME


@pytest.fixture(scope="session")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose champion is a trained MLP. Tests leave it as it is."""
    root = tmp_path_factory.mktemp("crowned")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    crown(settings)
    return Workspace(settings)


@pytest.fixture(scope="session")
def champion(crowned: Workspace) -> LoadedVersion:
    """That champion, loaded."""
    return load_version(NAME, crowned)
