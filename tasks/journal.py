"""Which steps of a run were executed, and which came from the cache and from which run."""

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class Journal:
    """The steps of one run in the order of their first mention.

    `steps` maps a step's label to the name of the run that made its result, or None when it was
    executed in this one.
    """

    steps: dict[str, str | None] = field(default_factory=dict)

    @property
    def executed(self) -> list[str]:
        """The steps that this run executed."""
        return [label for label, made_in in self.steps.items() if made_in is None]


_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextlib.contextmanager
def journal() -> Iterator[Journal]:
    """Collect what the steps of this block note, those in other threads included."""
    kept = Journal()
    token = _journal.set(kept)
    try:
        yield kept
    finally:
        _journal.reset(token)


def note(label: str, made_in: str | None) -> bool:
    """Note and say that a step is executed now (None), or taken from the cache of `made_in`.

    A step that is asked for more than once in a run counts as executed if it was so once. Returns
    whether that is news.
    """
    kept = _journal.get()
    if kept is None or (label in kept.steps and (made_in or kept.steps[label] is None)):
        return False
    kept.steps[label] = made_in
    if made_in is None:
        logger.info("%s: running", label)
    else:
        logger.info("%s: from the cache, made in %s", label, made_in)
    return True
