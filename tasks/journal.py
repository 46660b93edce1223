"""Records which steps a run executed, and which came from the cache and from which run."""

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class Journal:
    """The steps of one run, in order of first use.

    `steps` maps a step's label to the name of the run that created its result, or to None if this
    run executed the step.
    """

    steps: dict[str, str | None] = field(default_factory=dict)

    @property
    def executed(self) -> list[str]:
        """Labels of the steps that this run executed."""
        return [label for label, made_in in self.steps.items() if made_in is None]


_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextlib.contextmanager
def journal() -> Iterator[Journal]:
    """Collect the notes of the steps in this block, including steps in other threads."""
    kept = Journal()
    token = _journal.set(kept)
    try:
        yield kept
    finally:
        _journal.reset(token)


def note(label: str, made_in: str | None) -> bool:
    """Note and log that a step is executed now (None) or its result comes from run `made_in`.

    A step that is used several times in a run counts as executed if it was executed once. Returns
    whether the journal changed.
    """
    kept = _journal.get()
    if kept is None or (label in kept.steps and (made_in or kept.steps[label] is None)):
        return False
    kept.steps[label] = made_in
    if made_in is None:
        logger.info("%s: running", label)
    else:
        logger.info("%s: from the cache, made by %s", label, made_in)
    return True
