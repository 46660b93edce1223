from itertools import pairwise
from typing import Any

import pytest
from prefect.states import Failed

from digits.errors import DataError, UnreachableError
from tasks.ingest import ingest, may_pass
from tasks.validate import validate

OFFLINE = UnreachableError("no source answered")


def is_tried_again(error: Exception) -> bool:
    nothing: Any = None
    return may_pass(ingest, nothing, Failed(data=error))


@pytest.fixture
def is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run that a schedule, an event or the dashboard has started."""
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "retrain")


@pytest.mark.usefixtures("is_deployed")
def test_sources_that_cannot_be_reached_are_tried_again_later_and_later() -> None:
    assert is_tried_again(OFFLINE)
    assert isinstance(ingest.retry_delay_seconds, list)
    assert ingest.retries == len(ingest.retry_delay_seconds) > 0
    assert all(later > sooner for sooner, later in pairwise(ingest.retry_delay_seconds))


@pytest.mark.usefixtures("is_deployed")
def test_what_cannot_pass_is_not_tried_again() -> None:
    assert not is_tried_again(DataError("not the file that was expected"))
    assert not is_tried_again(ValueError("a mistake of ours"))
    assert validate.retries == 0


def test_whoever_waits_for_a_run_is_told_at_once() -> None:
    assert not is_tried_again(OFFLINE)
