"""Ask a dataset's sources so that an unreachable one does not hold up the others.

The next source is asked if those before it have failed, or have not answered for a while. Usually
the first answers at once, and no other is ever contacted.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from digits.errors import DataError
from digits.spec import NpmSource, RemoteSource, Role

logger = logging.getLogger(__name__)

Files = Mapping[Role, bytes]

# A source that has not answered for HEAD_START seconds is joined by the next one, and after
# MAX_SILENCE it is given up: resolving a host's name can hang for minutes. npm answers when it has
# finished, and has a limit of its own.
HEAD_START, MAX_SILENCE = 3.0, 25.0
# How often to look at what the sources do.
TICK = 0.1
# Time for the others to notice the end; npm is killed and its temporary folder removed.
CLEANUP_SECONDS = 2.0


@dataclass(frozen=True)
class Attempt:
    """One source being asked, in a thread of its own."""

    source: RemoteSource
    is_over: threading.Event
    has_answered: threading.Event = field(default_factory=threading.Event)
    future: "Future[Files]" = field(default_factory=Future)
    started: float = field(default_factory=time.monotonic)

    def start(self, ask: Callable[["Attempt"], Files]) -> None:
        """Ask the source. A thread that never returns does not keep the process alive."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run, ask), daemon=True).start()

    def _run(self, ask: Callable[["Attempt"], Files]) -> None:
        try:
            self.future.set_result(ask(self))
        except BaseException as error:  # noqa: BLE001  (raised where the result is asked for)
            self.future.set_exception(error)

    @property
    def is_silent(self) -> bool:
        """Whether the source has not answered for too long."""
        seconds = time.monotonic() - self.started
        is_asked = not (self.has_answered.is_set() or isinstance(self.source, NpmSource))
        return is_asked and seconds > MAX_SILENCE


def first_of(
    sources: Sequence[RemoteSource], ask: Callable[[Attempt], Files], name: str
) -> tuple[Files | None, list[str]]:
    """Return what `ask` returns for the first source that succeeds, and why others failed.

    `ask` sets `has_answered`, and may give up once `is_over` is set. It raises DataError if its
    source fails; any other error ends the race. Without success, the first value is None.
    """
    unasked = list(sources)
    is_over = threading.Event()
    running: list[Attempt] = []
    reasons: dict[str, str] = {}
    next_due = 0.0
    try:
        while unasked or running:
            has_answered = any(attempt.has_answered.is_set() for attempt in running)
            if unasked and not has_answered and time.monotonic() >= next_due:
                attempt = Attempt(unasked.pop(0), is_over)
                logger.info("fetching %s from %s", name, attempt.source.label)
                attempt.start(ask)
                running.append(attempt)
                next_due = attempt.started + HEAD_START
            wait([attempt.future for attempt in running], TICK, FIRST_COMPLETED)
            for attempt in [one for one in running if one.future.done() or one.is_silent]:
                running.remove(attempt)
                try:
                    return _result(attempt), list(reasons.values())
                except DataError as error:
                    reasons[attempt.source.label] = str(error)
                    logger.info("%s%s", error, "; trying the next source" if unasked else "")
                    next_due = 0.0
        in_order = (reasons[source.label] for source in sources)
        return None, list(dict.fromkeys(in_order))
    finally:
        is_over.set()
        wait([attempt.future for attempt in running], CLEANUP_SECONDS)


def _result(attempt: Attempt) -> Files:
    if attempt.future.done():
        return attempt.future.result()
    raise DataError(f"{attempt.source.label} did not answer within {MAX_SILENCE:g} s")
