from itertools import pairwise
from typing import Any

import pytest
from prefect.states import Failed

from digits.errors import DataError, UnreachableError
from tasks.ingest import ingest, may_pass
from tasks.validate import validate

OFFLINE = UnreachableError("no source answered")


def is_retried(error: Exception) -> bool:
    nothing: Any = None
    return may_pass(ingest, nothing, Failed(data=error))


@pytest.fixture
def is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run started by a schedule, an event or the dashboard."""
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "retrain")


@pytest.mark.usefixtures("is_deployed")
def test_unreachable_sources_are_retried_with_growing_delays() -> None:
    assert is_retried(OFFLINE)
    assert isinstance(ingest.retry_delay_seconds, list)
    assert ingest.retries == len(ingest.retry_delay_seconds) > 0
    assert all(later > sooner for sooner, later in pairwise(ingest.retry_delay_seconds))


@pytest.mark.usefixtures("is_deployed")
def test_permanent_errors_are_not_retried() -> None:
    assert not is_retried(DataError("not the file that was expected"))
    assert not is_retried(ValueError("a bug"))
    assert validate.retries == 0


def test_an_interactive_run_fails_at_once() -> None:
    assert not is_retried(OFFLINE)
