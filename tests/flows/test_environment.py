"""The environment variables that are set for the libraries, and how Prefect reads them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from digits.errors import DigitsError
from digits.settings import ROOT, Settings
from flows.environment import prepare_environment, prepare_folders

# Prints how Prefect reads the environment that a command prepares.
SETTINGS = """
import json, sys
from digits.settings import Settings
from flows.environment import prepare_environment
prepare_environment(Settings())
from prefect.settings import get_current_settings
settings = get_current_settings()
print(json.dumps({
    "api": settings.api.url,
    "home": str(settings.home),
    "values": str(settings.results.local_storage_path),
    "analytics": settings.server.analytics_enabled,
    "extra_loggers": sorted(settings.logging.extra_loggers),
    "when_missing_flow": settings.logging.to_api.when_missing_flow,
    "internal_level": settings.internal.logging_level,
    "version_check": settings.client.server_version_check_enabled,
}))
"""


@pytest.fixture
def prepared(settings: Settings) -> dict[str, str]:
    """The environment that is prepared if no variable is set."""
    with patch.dict(os.environ, clear=True):
        prepare_environment(settings)
        return dict(os.environ)


def test_prefect_uses_only_the_prepared_environment(settings: Settings, tmp_path: Path) -> None:
    # A user's own profile, which would send runs to another server.
    profiles = tmp_path / "home" / ".prefect" / "profiles.toml"
    profiles.parent.mkdir(parents=True)
    profiles.write_text('active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    environment |= {
        "HOME": str(tmp_path / "home"),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
        "PYTHONPATH": str(ROOT),
    }
    printed = subprocess.check_output(
        [sys.executable, "-c", SETTINGS], cwd=tmp_path, env=environment
    )
    assert json.loads(printed) == {
        "api": None,
        "home": str(settings.artifacts_dir / "prefect"),
        "values": str(settings.artifacts_dir / "cache" / "values"),
        "analytics": False,
        "extra_loggers": ["digits", "flows", "tasks"],
        "when_missing_flow": "ignore",
        "internal_level": "CRITICAL",
        "version_check": False,
    }


def test_telemetry_of_libraries_is_off(prepared: dict[str, str]) -> None:
    assert prepared["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert prepared["GX_ANALYTICS_ENABLED"] == "false"
    assert prepared["DO_NOT_TRACK"] == "1"


def test_variables_that_are_already_set_are_kept(settings: Settings) -> None:
    own = {"KERAS_BACKEND": "jax", "PREFECT_HOME": "/elsewhere"}
    with patch.dict(os.environ, own, clear=True):
        prepare_environment(settings)
        assert os.environ.items() >= own.items()


def test_variables_of_keras_that_change_a_training_are_removed(settings: Settings) -> None:
    outside = {"KERAS_HOME": "/mine", "KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    with patch.dict(os.environ, outside, clear=True):
        prepare_environment(settings)
        found = {name: value for name, value in os.environ.items() if name.startswith("KERAS_")}
    assert found == {
        "KERAS_HOME": str(settings.artifacts_dir / "keras"),
        "KERAS_BACKEND": "tensorflow",
    }


def test_folders_are_created_and_left_empty(settings: Settings, prepared: dict[str, str]) -> None:
    with patch.dict(os.environ, prepared):
        prepare_folders(settings)
        prepare_folders(settings)
    assert [path for path in settings.artifacts_dir.rglob("*") if path.is_file()] == []
    assert settings.prepared_dir.is_dir()


def test_an_unwritable_folder_is_named(settings: Settings, prepared: dict[str, str]) -> None:
    settings.artifacts_dir.mkdir()
    (settings.artifacts_dir / "cache").write_text("")
    with (
        patch.dict(os.environ, prepared),
        pytest.raises(DigitsError, match=r"cache/values is not writable .Not a directory."),
    ):
        prepare_folders(settings)
