"""What Prefect is told about PostgreSQL and Redis, and what is refused before anything starts."""

import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from digits.errors import UsageError
from digits.settings import Settings
from flows.cli import main
from flows.serving.migrations import installed_revisions
from flows.serving.team import DATABASE_SETTING, prepare_server

DATABASE = "postgresql+asyncpg://prefect:secret@db.example.org/prefect"
REDIS = "redis://:secret@redis.example.org:6379/0"


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """An environment with the database alone, restored after the test."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with patch.dict(os.environ, {**bare, DATABASE_SETTING: DATABASE}, clear=True):
        yield


def with_redis(settings: Settings) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr(REDIS)})


def test_prefect_is_told_of_redis_wherever_it_asks(settings: Settings) -> None:
    prepare_server(with_redis(settings))
    urls = [name for name, value in os.environ.items() if value == REDIS]
    assert {name for name in urls if name.startswith("PREFECT_")} == {
        "PREFECT_REDIS_MESSAGING_URL",
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL",
        "PREFECT_SERVER_DOCKET_URL",
    }
    modules = [value for value in os.environ.values() if value.startswith("prefect_redis.")]
    assert len(modules) == 5
    assert os.environ["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] == "false"


def test_an_operators_own_settings_win(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DOCKET_URL", "redis://elsewhere/1")
    prepare_server(with_redis(settings))
    assert os.environ["PREFECT_SERVER_DOCKET_URL"] == "redis://elsewhere/1"


def test_no_page_of_another_origin_may_read_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_ALLOWED_HOSTS", "digits.example.org, server")
    prepare_server(with_redis(settings))
    origins = os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert origins == "https://digits.example.org,https://server"


def test_the_servers_password_is_also_the_clients(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "operator:secret")
    prepare_server(with_redis(settings))
    assert os.environ["PREFECT_API_AUTH_STRING"] == "operator:secret"


@pytest.mark.parametrize("url", [None, "sqlite+aiosqlite:///x.db", "postgresql://u:secret@h/d"])
def test_another_database_is_refused_without_showing_its_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    monkeypatch.delenv(DATABASE_SETTING)
    if url:
        monkeypatch.setenv(DATABASE_SETTING, url)
    with pytest.raises(UsageError, match="use `digits up`") as refused:
        prepare_server(with_redis(settings))
    assert "secret" not in str(refused.value)


def test_replicas_without_redis_are_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="DIGITS_REDIS_URL is missing"):
        prepare_server(settings)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["server", "--host", "0.0.0.0"], "PREFECT_SERVER_API_AUTH_STRING"),
        (["services"], "PREFECT_API_URL is missing"),
        (["register"], "PREFECT_API_URL is missing"),
        (["worker"], "PREFECT_API_URL is missing"),
    ],
)
def test_a_missing_setting_is_named_in_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: list[str], reason: str
) -> None:
    monkeypatch.setenv("DIGITS_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DIGITS_ARTIFACTS_DIR", str(settings.artifacts_dir))
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_last_of_the_installed_revisions_is_known() -> None:
    known, latest = installed_revisions()
    assert latest in known
    assert len(known) > 100
