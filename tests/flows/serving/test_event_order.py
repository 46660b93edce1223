"""The order of events for a server that has just started."""

import asyncio
import importlib
import os
from uuid import uuid4

import pytest
from prefect._internal.uuid7 import uuid7

from flows.serving.event_order import STARTED_MS, CausalOrdering
from flows.serving.service import prepare_service


def test_nothing_waits_for_an_event_from_before_the_server_started() -> None:
    order = CausalOrdering(scope="a test")
    assert asyncio.run(order.event_has_been_seen(uuid7(STARTED_MS - 1)))
    assert not asyncio.run(order.event_has_been_seen(uuid7(STARTED_MS + 1)))
    assert not asyncio.run(order.event_has_been_seen(uuid4()))


def test_the_server_finds_it_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})
    prepare_service()
    place = os.environ["PREFECT_SERVER_EVENTS_CAUSAL_ORDERING"]
    assert importlib.import_module(place).CausalOrdering is CausalOrdering
