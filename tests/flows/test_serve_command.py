import os
import socket
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from digits.settings import Settings
from tests.support.commands import call_digits
from tests.support.served_versions import promote_version, write_served_dataset
from tests.support.small_dataset import NAME


@pytest.fixture
def here(settings: Settings) -> Iterator[Settings]:
    """The settings of this process's workspace, with a champion."""
    folders = {
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
    }
    with patch.dict(os.environ, folders):
        write_served_dataset(settings)
        promote_version(settings, 1)
        yield settings


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "digits.example.org"])
def test_other_machines_need_a_key(host: str) -> None:
    result = call_digits("serve", "--dataset", NAME, "--host", host)
    assert result.exit_code == 2
    assert "DIGITS_API_KEY" in result.stderr


@pytest.mark.usefixtures("here")
def test_a_host_of_the_environment_needs_a_key_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_SERVE_HOST", "0.0.0.0")
    result = call_digits("serve", "--dataset", NAME)
    assert result.exit_code == 2
    assert "DIGITS_API_KEY" in result.stderr


@pytest.mark.usefixtures("here")
def test_an_unknown_dataset_is_refused() -> None:
    result = call_digits("serve", "--dataset", NAME, "--dataset", "unknown", "--port", "0")
    assert result.exit_code == 2
    assert "unknown dataset 'unknown'" in result.stderr


@pytest.mark.usefixtures("here")
def test_a_taken_port_is_named_with_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = call_digits("serve", "--dataset", NAME, "--port", port)
    assert result.exit_code == 1
    assert f"port {port} is in use by process {os.getpid()}" in result.stderr
    assert "choose another port with --port" in result.stderr
