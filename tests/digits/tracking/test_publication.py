"""Publishing without a server that works; tests/e2e/test_mlflow.py has a real one."""

import errno
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from digits.settings import Settings
from digits.storage.references import ReportRef
from digits.tracking.publication import publish
from digits.tracking.publisher import problem_of
from digits.tracking.unpublished import MadeByRun, Unpublished
from tests.support.histories import digest, make_model, make_score


def made(line: int = 1, report: str = "report") -> MadeByRun:
    model = make_model()
    scored = ((model, make_score(model, 99)),)
    return MadeByRun(
        run="retrain handwriting quick",
        line=line,
        scored=scored,
        report=ReportRef(digest=digest(report)),
    )


def with_server(settings: Settings, uri: str, seconds: float = 60) -> Settings:
    settings.artifacts_dir.mkdir(parents=True, exist_ok=True)
    values = {"mlflow_tracking_uri": uri, "mlflow_seconds": seconds}
    return Settings(**(settings.model_dump() | values))


def notes(settings: Settings) -> list[MadeByRun]:
    return [note for _, note in Unpublished("handwriting", settings).all()]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port where connections are accepted, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_the_variable_of_mlflow_and_nothing_else_turns_publishing_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert publish("handwriting", settings, made()) is None
    assert not settings.artifacts_dir.exists()
    assert "mlflow" not in sys.modules
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret@host")
    uri = Settings().mlflow_tracking_uri
    assert uri is not None
    assert uri.get_secret_value() == "http://user:s3cret@host"
    assert "s3cret" not in repr(Settings())


def test_a_missing_package_is_one_warning_that_names_the_extra(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    configured = with_server(settings, "http://127.0.0.1:9")
    warning = publish("handwriting", configured, made())
    assert warning is not None
    assert "the extra mlflow is not installed (`make mlflow` installs it)" in warning
    assert notes(configured) == [made()]


def test_a_server_that_is_away_is_a_warning_without_the_password(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    configured = with_server(settings, f"http://operator:s3cret@127.0.0.1:{port}")
    warning = publish("handwriting", configured, made())
    assert warning is not None
    assert warning == (
        f"MLflow lacks part of handwriting: http://***@127.0.0.1:{port}: ConnectionRefusedError: "
        f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}; the next run or rollback "
        "publishes the rest"
    )
    assert notes(configured) == [made()]


def test_a_server_that_never_answers_costs_only_the_time_allowed(
    settings: Settings, listener: socket.socket
) -> None:
    uri = f"http://operator:s3cret@127.0.0.1:{listener.getsockname()[1]}"
    configured = with_server(settings, uri, seconds=0.2)
    begun = time.monotonic()
    warning = publish("handwriting", configured, made())
    assert time.monotonic() - begun < 60  # urllib3's own timeouts and retries take longer
    assert warning is not None
    assert warning.startswith("MLflow lacks part of handwriting: http://***@127.0.0.1")
    assert "took longer than 0.2 s; the next run or rollback publishes the rest" in warning


def test_what_was_not_published_is_noted_once_in_the_order_of_decisions(
    settings: Settings,
) -> None:
    unpublished = Unpublished("handwriting", settings)
    for note in (made(2, "second"), made(1, "first"), made(2, "second")):
        unpublished.add(note)
    assert notes(settings) == [made(1, "first"), made(2, "second")]
    broken = unpublished.folder / f"{digest('broken')}.json"
    broken.write_text('{"run": 1}')
    assert [note.line for note in notes(settings)] == [1, 2]
    assert not broken.exists()


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_messages_contain_no_credentials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%40ss@host/path")
    monkeypatch.setenv(name, "t0ken")
    error = ValueError("https://me:p%40ss@host/path: p@ss and t0ken\nrefused \x1b[2J")
    uri = "https://***@host/path"
    assert problem_of(error) == rf"{uri}: ValueError: {uri}: *** and *** refused \x1b[2J"
