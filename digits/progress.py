"""Progress of a run: bars in a terminal, plain lines in a log."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

logger = logging.getLogger(__name__)

Follower = Callable[[str, int, int, str], None]
"""Called with a training's name, epochs completed, number of epochs, and a line of metrics."""

# The columns that the texts of a bar take, and the figures of an epoch in addition. A terminal that
# is too narrow for both and a short bar shows no figures.
TEXT_WIDTH, FIGURES_WIDTH = 32, 36
MIN_BAR, MAX_BAR = 12, 40
# How often a log tells how far a download is.
LOG_SECONDS = 10

_bars: ContextVar["Bars | None"] = ContextVar("bars", default=None)
_is_over: ContextVar[threading.Event | None] = ContextVar("is_over", default=None)
_follower: ContextVar[Follower | None] = ContextVar("follower", default=None)
_mark: ContextVar[str] = ContextVar("mark", default="")
_scored_on: ContextVar[str] = ContextVar("scored_on", default="test")


class Stopped(DigitsError):  # noqa: N818 -- not an error, just a stop
    """A training stopped after a minibatch because its run ended; its last epoch is kept."""


def is_terminal() -> bool:
    """Return whether the error stream is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@cache
def console() -> "Console":
    """Return the terminal that bars and log lines share, so that neither garbles the other."""
    from rich.console import Console

    return Console(stderr=True)


@contextlib.contextmanager
def bars(is_wanted: bool = True) -> Iterator[None]:
    """Show the block's downloads and trainings as bars, if wanted and if stderr is a terminal.

    This includes threads that run in a copy of the block's context.
    """
    if not (is_wanted and is_terminal()):
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    room = console().width - TEXT_WIDTH
    has_figures = room >= FIGURES_WIDTH + MIN_BAR
    bar_width = max(MIN_BAR, min(MAX_BAR, room - FIGURES_WIDTH * has_figures))
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width),
        TextColumn("{task.fields[done]}"),
        TimeRemainingColumn(),
    ]
    if has_figures:
        columns.append(TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=console()) as shown:
        token = _bars.set(shown)
        try:
            yield
        finally:
            _bars.reset(token)


@contextlib.contextmanager
def transfer(
    name: str, num_bytes: int | None, done: str = "received"
) -> Iterator[Callable[[int], None]]:
    """Show a download or upload as a bar during the block; yield a callback for the bytes so far.

    `num_bytes` is None if unknown; `done` is "received" or "sent". A log shows only a transfer that
    takes long, in a line now and then.
    """
    shown = _bars.get()
    if shown is None:
        yield _TransferLog(name, num_bytes, done).show
        return
    task = shown.add_task(name, total=num_bytes, done="", figures="")
    try:
        yield lambda received: shown.update(
            task, completed=received, done=f"{received / 1e6:.1f} MB"
        )
    finally:
        shown.remove_task(task)


class _TransferLog:
    """Logs the bytes so far, every LOG_SECONDS."""

    def __init__(self, name: str, num_bytes: int | None, done: str) -> None:
        self._done = done
        self._name, self._total = name, f" of {num_bytes / 1e6:.1f}" if num_bytes else ""
        self._last = time.monotonic()

    def show(self, so_far: int) -> None:
        if time.monotonic() - self._last >= LOG_SECONDS:
            self._last = time.monotonic()
            megabytes = so_far / 1e6
            logger.info("%s: %.1f%s MB %s", self._name, megabytes, self._total, self._done)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Stop the block's trainings, each after its current minibatch, if an error ends the block.

    This includes threads that run in a copy of the block's context.
    """
    is_over = threading.Event()
    token = _is_over.set(is_over)
    try:
        yield
    except BaseException:
        is_over.set()
        raise
    finally:
        _is_over.reset(token)


@contextlib.contextmanager
def followed(follower: Follower) -> Iterator[None]:
    """Report the block's trainings to `follower`, at the start and after each epoch.

    This includes threads that run in a copy of the block's context.
    """
    token = _follower.set(follower)
    try:
        yield
    finally:
        _follower.reset(token)


@contextlib.contextmanager
def marked(mark: str, *, scored_on: str = "test") -> Iterator[None]:
    """Tell the block's trainings from others of the same model, by a mark after their names.

    `scored_on` is the kind of images that they are scored on. This includes threads that run in a
    copy of the block's context.
    """
    tokens = _mark.set(mark), _scored_on.set(scored_on)
    try:
        yield
    finally:
        _mark.reset(tokens[0])
        _scored_on.reset(tokens[1])


def with_mark(name: str) -> str:
    """Return a name followed by the mark of the block, if it has one."""
    return f"{name} {_mark.get()}".rstrip()


class Progress:
    """Reports the progress of one training."""

    def __init__(self, name: str) -> None:
        self._name = with_mark(name)
        self._scored_on = _scored_on.get()
        self._bars = _bars.get()
        self._is_over = _is_over.get()
        self._follower = _follower.get()
        self._task: TaskID | None = None
        self._num_epochs = self._num_batches = 0

    def begin(self, num_epochs: int, num_batches: int, epoch: int) -> None:
        """Start after `epoch` of `num_epochs` epochs, with `num_batches` minibatches each."""
        self._num_epochs, self._num_batches = num_epochs, num_batches
        self._tell(epoch, "started")
        if self._bars is not None:
            self._task = self._bars.add_task(
                self._name,
                total=num_epochs * num_batches,
                completed=epoch * num_batches,
                done=f"epoch {epoch}/{num_epochs}",
                figures="",
            )

    def advance(self, epoch: int, batch: int) -> None:
        """Report `batch` minibatches done after `epoch` complete epochs.

        Raises Stopped if the run has ended.
        """
        if self._is_over is not None and self._is_over.is_set():
            raise Stopped(f"{self._name}: stopped because its run ended")
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=epoch * self._num_batches + batch)

    def finish_epoch(self, figures: Mapping[str, Any]) -> None:
        """Report a completed epoch; `figures` contains its number, losses and accuracies."""
        done = f"epoch {figures['epoch']}/{self._num_epochs}"
        accuracy = f"{self._scored_on} accuracy {figures['val_accuracy']:.2%}"
        text = f"loss {figures['loss']:.4f}, {accuracy}"
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, done=done, figures=text)
        else:
            logger.info("%s: %s, %s", self._name, done, text)
        self._tell(figures["epoch"], text)

    def _tell(self, epoch: int, text: str) -> None:
        if self._follower is not None:
            self._follower(self._name, epoch, self._num_epochs, text)
