import contextvars
import threading
import time
import uuid

import httpx
import pytest

from tasks import artifacts, live
from tasks.live import LiveProgress

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who")
SOON = 10.0


class Dashboard:
    """Stands in for the server: records updates, optionally slowly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[tuple[str, float, str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: Exception | None = None
        self._names: dict[uuid.UUID, str] = {}
        monkeypatch.setattr(artifacts, "create", self.create)
        monkeypatch.setattr(artifacts, "update", self.update)
        monkeypatch.setattr(live, "PAUSE_SECONDS", 0)

    def create(self, kind: str, key: str, progress: float, description: str) -> uuid.UUID:
        assert kind == "progress"
        bar = uuid.uuid4()
        self._names[bar] = key
        self.update(bar, progress, description)
        return bar

    def update(self, bar: uuid.UUID, progress: float, description: str) -> None:
        assert self.may_answer.wait(SOON)
        if self.error is not None:
            raise self.error
        self.shown.append((f"{WHO.get('nobody')}: {self._names[bar]}", progress, description))


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    return Dashboard(monkeypatch)


def test_each_training_has_a_bar_that_ends_full(dashboard: Dashboard) -> None:
    with LiveProgress() as progress:
        for epoch in range(3):
            progress("train mlp", epoch, 2, "well")
            progress("train cnn", epoch, 2, "better")
    last = {name: (share, text) for name, share, text in dashboard.shown}
    assert last == {
        "nobody: train-mlp": (100, "train mlp: epoch 2 of 2, well"),
        "nobody: train-cnn": (100, "train cnn: epoch 2 of 2, better"),
    }


def test_a_bar_belongs_to_the_task_that_trains(dashboard: Dashboard) -> None:
    def train(who: str) -> None:
        WHO.set(who)
        progress(f"train {who}", 1, 1, "")

    with LiveProgress() as progress:
        for who in ("mlp", "cnn"):
            contextvars.copy_context().run(train, who)
    assert [name for name, _, _ in dashboard.shown] == ["mlp: train-mlp", "cnn: train-cnn"]


def test_a_slow_server_blocks_no_training_and_gets_only_the_newest_update(
    dashboard: Dashboard,
) -> None:
    dashboard.may_answer.clear()
    with LiveProgress() as progress:
        for epoch in range(1000):
            progress("train mlp", epoch + 1, 1000, "")
        assert dashboard.shown == []
        dashboard.may_answer.set()
    assert dashboard.shown[-1][1] == 100
    assert len(dashboard.shown) < 1000


def test_updates_are_spaced_out_except_for_the_last(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAUSE_SECONDS", 3600)
    with LiveProgress() as progress:
        progress("train mlp", 1, 3, "")
        while not dashboard.shown:
            time.sleep(0.01)
        progress("train mlp", 2, 3, "")
        progress("train mlp", 3, 3, "")
        assert len(dashboard.shown) == 1
    assert [share for _, share, _ in dashboard.shown] == [pytest.approx(100 / 3), 100]


def test_an_unreachable_server_is_logged_and_stops_nothing(
    dashboard: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    dashboard.error = httpx.ConnectError("gone")
    with LiveProgress() as progress:
        progress("train mlp", 1, 1, "")
    assert "cannot show training progress in the dashboard: gone" in caplog.text
