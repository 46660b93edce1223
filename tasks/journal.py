"""Records which steps a run executed, and which came from the cache and from which run.

All of it comes from what the tasks return, so it is the same wherever they ran: Prefect's state
says whether a result came from the cache, and the result names the record of the run that made it.
"""

import contextlib
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.tasks import Task

from digits.cache.keys import step_label
from digits.errors import DigitsError
from digits.storage.records import Record
from digits.storage.references import Reference
from digits.storage.workspace import current_workspace

R = TypeVar("R", bound=Reference)

# Prefect's name of the state of a task whose result came from the cache.
CACHED = "Cached"
# Another machine has deleted the record since, or the store is away.
UNKNOWN_RUN = "a run whose record cannot be read"


@dataclass
class Journal:
    """The steps of one run, in order of first use.

    `steps` maps a step's label to the name of the run that created its result, or to None if this
    run executed the step. A step that is used several times in a run counts as executed if it was
    executed once.
    """

    steps: dict[str, str | None] = field(default_factory=dict)

    @property
    def executed(self) -> list[str]:
        """Labels of the steps that this run executed."""
        return [label for label, made_in in self.steps.items() if made_in is None]

    def noting(self, step: Task[..., R]) -> "NotedStep[R]":
        """Return a step that is called as before, by keyword, and whose results are noted here."""
        return NotedStep(step, self)

    def note(self, step: str, result: Reference, state: State[Any]) -> None:
        """Note how a step's result came about, from the state in which its task ended."""
        label = step_label(step, {"model": getattr(result, "model", None)})
        made_in = _other_run(result) if state.name == CACHED else None
        if label not in self.steps or made_in is None:
            self.steps[label] = made_in


@dataclass(frozen=True)
class NotedStep(Generic[R]):
    """A step whose results are noted in a journal."""

    task: Task[..., R]
    journal: Journal

    def __call__(self, **arguments: Any) -> R:
        """Run the step in this thread; raises its error."""
        state: State[R] = self.task(**arguments, return_state=True)
        result: R = state.result(_sync=True)  # type: ignore[call-overload]
        self.journal.note(self.task.name, result, state)
        return result

    def submit(self, **arguments: Any) -> "NotedFuture[R]":
        """Start the step where the flow's task runner runs it."""
        given = {
            name: value.future if isinstance(value, NotedFuture) else value
            for name, value in arguments.items()
        }
        return NotedFuture(self.task.submit(**given), self.task.name, self.journal)


@dataclass(frozen=True)
class NotedFuture(Generic[R]):
    """A submitted step, whose result is noted when it is asked for."""

    future: PrefectFuture[R]
    step: str
    journal: Journal

    def result(self) -> R:
        """Wait for the step and return what it made; raises its error."""
        result = self.future.result()
        self.journal.note(self.step, result, self.future.state)
        return result


def maker(record: Record) -> str:
    """Name the run that made a record's result, as in logs and pages."""
    return f"{record.run_name} of {record.created:%Y-%m-%d %H:%M}"


def is_of_this_run(record: Record) -> bool:
    """Return whether the current flow run made a record's result."""
    return record.run_id == str(flow_run.id)


def _other_run(result: Reference) -> str | None:
    """Name the run that made a cached result, or return None if it is the current one."""
    record = None
    with contextlib.suppress(DigitsError):
        record = current_workspace().records.recent(result.made_by)
    if record is None:
        return UNKNOWN_RUN
    return None if is_of_this_run(record) else maker(record)
