import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from digits.errors import UsageError
from digits.settings import Settings
from flows.environment import prepare_environment
from flows.serving.processes import Process
from flows.serving.service import api_address, down, page_address, prepare_service

API = "http://127.0.0.1:4321/api"


@pytest.fixture
def environment() -> Iterator[None]:
    """An environment without Prefect's variables, restored after the test."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with patch.dict(os.environ, bare, clear=True):
        yield


@pytest.mark.usefixtures("environment")
def test_the_server_is_on_the_loopback_address_by_default() -> None:
    assert prepare_service() == "http://127.0.0.1:4200/api"
    assert os.environ["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


@pytest.mark.usefixtures("environment")
def test_a_server_for_other_machines_needs_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "0.0.0.0")
    with pytest.raises(UsageError, match="PREFECT_SERVER_API_AUTH_STRING"):
        prepare_service()
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "operator:secret")
    prepare_service()
    assert os.environ["PREFECT_API_AUTH_STRING"] == "operator:secret"


@pytest.mark.usefixtures("environment")
def test_an_ipv6_address_is_put_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "::1")
    assert prepare_service() == "http://[::1]:4200/api"


@pytest.mark.usefixtures("environment")
def test_commands_use_the_server_while_the_service_is_up(settings: Settings) -> None:
    service = Process("service", settings)
    with service.be_this() as note:
        prepare_environment(settings)
        assert "PREFECT_API_URL" not in os.environ  # starting, so it cannot answer yet
        note(API)
        prepare_environment(settings)
        assert os.environ.pop("PREFECT_API_URL") == API
        assert os.environ.pop("DIGITS_SERVE_URL") == "http://127.0.0.1:4323"
    prepare_environment(settings)
    assert not {"PREFECT_API_URL", "DIGITS_SERVE_URL"} & set(os.environ)


def test_a_page_has_a_url_while_the_service_is_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(settings.artifacts_dir))
    page = settings.artifacts_dir / "reports" / "1" / "report.html"
    assert page_address(page) is None
    with Process("service", settings).be_this() as note:
        note(API)
        assert api_address(settings) == API
        assert page_address(page) == "http://127.0.0.1:4322/reports/1/report.html"


def test_down_works_if_nothing_is_up(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        down(settings)
    assert "nothing; the service was not up" in caplog.text
    assert not Path(settings.artifacts_dir / "logs").exists()
