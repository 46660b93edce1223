import contextvars
import logging
import threading

import pytest

from tasks.journal import journal, note


def test_executed_and_cached_steps_are_distinguished() -> None:
    with journal() as kept:
        note("train cnn", made_in=None)
        note("ingest", made_in="an earlier run")
    assert kept.steps == {"train cnn": None, "ingest": "an earlier run"}
    assert kept.executed == ["train cnn"]


def test_a_step_that_was_executed_once_counts_as_executed() -> None:
    with journal() as kept:
        note("evaluate cnn", made_in="an earlier run")
        note("evaluate cnn", made_in=None)
        note("evaluate cnn", made_in="an earlier run")
    assert kept.executed == ["evaluate cnn"]


def test_notes_from_a_thread_with_a_copied_context_are_kept() -> None:
    with journal() as kept:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(note, "train mlp", None))
        thread.start()
        thread.join()
    assert kept.executed == ["train mlp"]


def test_nothing_is_kept_outside_a_journal_block() -> None:
    note("ingest", made_in=None)
    with journal() as kept:
        pass
    note("ingest", made_in=None)
    assert kept.steps == {}


def test_each_step_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tasks.journal"), journal():
        for _ in range(2):
            note("ingest", made_in="an earlier run")
            note("validate", made_in=None)
    assert caplog.messages == [
        "ingest: from the cache, made by an earlier run",
        "validate: running",
    ]
