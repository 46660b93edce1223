import contextvars
import logging
import re
import sys
import threading
from types import SimpleNamespace

import pytest

from digits import progress
from digits.progress import Progress, bars, console, transfer
from tests.support.terminal import terminal

FIGURES = {"epoch": 1, "loss": 0.31254, "accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.91234}
SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "digits")


def train(name: str = "train mlp", epoch: int = 0) -> None:
    """Report what a training reports for one of two epochs."""
    progress = Progress(name)
    progress.begin(num_epochs=2, num_batches=5, epoch=epoch)
    for batch in range(5):
        progress.advance(epoch, batch + 1)
    progress.finish_epoch({**FIGURES, "epoch": epoch + 1})


def test_a_log_gets_one_plain_line_per_epoch(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with bars():
        train()
        train(epoch=1)

    assert caplog.messages == [
        "train mlp: epoch 1/2, loss 0.3125, test accuracy 91.23%",
        "train mlp: epoch 2/2, loss 0.3125, test accuracy 91.23%",
    ]
    assert "\x1b" not in "".join(capfd.readouterr())


def test_a_training_outside_a_run_logs_lines_even_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with terminal(monkeypatch) as shown:
        train()

    assert len(caplog.messages) == 1
    assert shown.text == ""


def test_a_dumb_terminal_gets_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with terminal(monkeypatch) as shown:
        monkeypatch.setenv("TERM", "dumb")
        with bars():
            train()

    assert len(caplog.messages) == 1
    assert shown.text == ""


@pytest.mark.parametrize(("columns", "has_figures"), [("60", False), ("100", True)])
def test_a_bar_fits_its_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str, has_figures: bool
) -> None:
    console.cache_clear()
    with terminal(monkeypatch) as shown:
        monkeypatch.setenv("COLUMNS", columns)
        with bars():
            train()
    console.cache_clear()

    line = re.findall(r"train mlp [^\r\n\x1b]*", shown.text)[-1]
    assert len(line) <= int(columns)
    assert line.count("━") + line.count("╸") >= 12
    assert "epoch 1/2" in line
    assert ("test accuracy 91.23%" in line) == has_figures


def test_a_terminal_gets_a_bar_instead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with terminal(monkeypatch) as shown, bars():
        train()

    last = shown.text.rpartition("train mlp")[2]
    assert "epoch 1/2" in last
    assert "loss 0.3125, test accuracy 91.23%" in last
    assert caplog.messages == []


def test_a_resumed_training_starts_its_bar_where_it_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with terminal(monkeypatch) as shown, bars():
        Progress("train mlp").begin(num_epochs=4, num_batches=5, epoch=3)

    last = shown.text.rpartition("train mlp")[2]
    assert "epoch 3/4" in last
    # Three quarters of a bar of 40.
    assert last.count("━") == 30


def test_trainings_in_two_threads_share_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown, bars():
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(train, name))
            for name in ("train mlp", "train cnn")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    last = shown.text.rpartition("train mlp")[2]
    assert last.count("epoch 1/2") == 2
    assert "train cnn" in last


@pytest.mark.parametrize("num_bytes", [9_000_000, None])
def test_a_download_is_shown_only_while_it_runs(
    num_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch) as shown, bars():
        with transfer("digits.npz", num_bytes) as show:
            show(4_500_000)
            # The display is redrawn ten times a second and whenever a bar is added.
            train("during")
        train("after")

    during, _, after = shown.text.partition("after")
    assert "4.5 MB" in during.rpartition("digits.npz")[2]
    assert "digits.npz" not in after


def test_a_download_in_a_log_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with bars(), transfer("digits.npz", None) as show:
        show(4_500_000)

    assert capfd.readouterr() == ("", "")


def test_a_long_download_in_a_log_shows_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with transfer("mnist.npz", 11_000_000) as show:
        for second in range(25):
            clock.now = float(second)
            show(second * 100_000)

    assert caplog.messages == [
        "mnist.npz: 1.0 of 11.0 MB received",
        "mnist.npz: 2.0 of 11.0 MB received",
    ]


def test_a_failure_restores_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        terminal(monkeypatch) as shown,
        pytest.raises(RuntimeError),
        bars(),
        transfer("digits.npz", 9),
    ):
        raise RuntimeError

    assert shown.text.rstrip().endswith(SHOW_CURSOR)
    with bars():
        Progress("train mlp").begin(1, 1, 0)


def test_bars_end_with_their_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with terminal(monkeypatch), bars():
        train()
    train()

    assert len(caplog.messages) == 1


def test_log_lines_and_bars_go_to_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch):
        assert console().file is sys.stderr
        assert console().is_terminal
