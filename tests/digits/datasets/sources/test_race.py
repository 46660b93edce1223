"""Sources that are slow, silent or dead do not hold up the others."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from digits.datasets.sources import race
from digits.datasets.sources.downloads import download
from digits.datasets.sources.race import Attempt, Files, first_of
from digits.errors import DataError
from digits.spec import IdxSource, NpmSource, NpzSource, RemoteSource
from tests.support.handwriting import SHAPE
from tests.support.served import FILES, NPM, serve_idx, serve_npz, write_npm
from tests.support.server import Answer, Server

FIRST = NpzSource(kind="npz", url="http://first/digits.npz")
SECOND = IdxSource(kind="idx", url="http://second")
PACKAGE = NpmSource.model_validate(NPM)
FOREVER = 3600.0


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "digits")
    return caplog


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What a source that never answers waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def silent_server() -> Iterator[NpzSource]:
    """A source that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        yield NpzSource(kind="npz", url=f"http://127.0.0.1:{port}/digits.npz")


def test_a_silent_source_is_joined_by_the_next(
    silent_server: NpzSource, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "HEAD_START", 0.1)
    monkeypatch.setattr(race, "CLEANUP_SECONDS", 0)
    second = IdxSource.model_validate(serve_idx(server))

    files, reasons = first_of(
        (silent_server, second),
        lambda attempt: download(attempt.source, SHAPE, attempt),
        "handwriting",
    )

    assert (files, reasons) == (FILES, [])


def test_a_source_that_answers_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(race, "time", SimpleNamespace(monotonic=lambda: clock.now))
    npz = NpzSource.model_validate(serve_npz(server))
    asked = []

    def ask(attempt: Attempt) -> Files:
        asked.append(attempt.source)
        attempt.has_answered.set()
        clock.now += FOREVER
        return download(attempt.source, SHAPE)

    files, _ = first_of((npz, SECOND), ask, "handwriting")

    assert files == FILES
    assert asked == [npz]


def test_a_source_that_never_answers_is_given_up(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "MAX_SILENCE", 0.2)
    monkeypatch.setattr(race, "CLEANUP_SECONDS", 0)

    def ask(attempt: Attempt) -> Files:
        if attempt.source is FIRST:
            hanging.wait()
        raise DataError(f"{attempt.source.label} is down")

    files, reasons = first_of((FIRST, SECOND), ask, "handwriting")

    assert files is None
    assert reasons == [
        "http://first/digits.npz did not answer within 0.2 s",
        "http://second is down",
    ]


def test_npm_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "MAX_SILENCE", 0.0)
    attempt = Attempt(PACKAGE, threading.Event(), started=-FOREVER)
    assert not attempt.is_silent
    assert Attempt(FIRST, threading.Event(), started=-FOREVER).is_silent


def test_after_a_failure_the_next_source_is_asked_at_once(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(race, "HEAD_START", FOREVER)

    def ask(attempt: Attempt) -> Files:
        if attempt.source is FIRST:
            raise DataError("the first is down")
        return FILES

    assert first_of((FIRST, SECOND), ask, "handwriting") == (FILES, ["the first is down"])
    assert "the first is down; trying the next source" in lines.messages


def test_the_losers_are_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "HEAD_START", 0.0)
    stopped = threading.Event()

    def ask(attempt: Attempt) -> Files:
        if attempt.source is SECOND:
            return FILES
        if attempt.is_over.wait(60):
            stopped.set()
        raise DataError("another was faster")

    first_of((FIRST, SECOND), ask, "handwriting")

    assert stopped.is_set()


def test_a_download_that_lost_ends(server: Server) -> None:
    server.answers["/digits.npz"] = [Answer(b"x" * 1000)]
    source = NpzSource(kind="npz", url=f"{server.url}/digits.npz")
    with pytest.raises(DataError, match="another source was faster"):
        download(source, SHAPE, lost(source))


def test_an_npm_that_lost_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    write_npm(tmp_path, "time.sleep(3600)")
    with pytest.raises(DataError, match="another source was faster"):
        download(PACKAGE, SHAPE, lost(PACKAGE))


def lost(source: RemoteSource) -> Attempt:
    attempt = Attempt(source, threading.Event())
    attempt.is_over.set()
    return attempt


def test_an_unexpected_error_ends_the_race() -> None:
    def ask(_: Attempt) -> Files:
        raise MemoryError

    with pytest.raises(MemoryError):
        first_of((FIRST, SECOND), ask, "handwriting")
