"""The steps' cache policy: Prefect's task caching with our own keys and checks.

Before each step, Prefect asks the key storage for a record. Ours returns one only after checking
every byte that the record refers to; otherwise Prefect runs the step again. The value that Prefect
then reads is that record's: nothing on disk can name a serializer or a class to load.

A step can run in any process that can import it, such as one of Ray on another machine. All of one
call happens in the process, and in the thread, that runs it: the key, the look-up, the function and
the record. What the calling flow learns of it is the result and its state.
"""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from inspect import signature
from typing import Any, ClassVar, ParamSpec, TypeVar

from prefect._internal.result_records import ResultRecordMetadata
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.filesystems import WritableFileSystem
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.serializers import JSONSerializer
from prefect.tasks import Task
from prefect.transactions import IsolationLevel

from digits.cache.keys import project, step_key, step_label
from digits.errors import DamagedError, StoreError
from digits.progress import with_mark
from digits.storage.records import Record, StepKey
from digits.storage.references import Reference
from digits.storage.workspace import current_workspace
from digits.training.processors import processor
from digits.training.variables import recorded_variables
from tasks.journal import is_of_this_run, maker
from tasks.locking import StepLocks

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R", bound=Reference)


@dataclass
class Call:
    """One call of a step: its key, and its record if it is cached or its result if it was made.

    `refusal` is why the store could not be asked for the record.
    """

    key: StepKey
    label: str
    record: Record | None = None
    made: Reference | None = None
    refusal: StoreError | None = None


# The call that this thread is in: Prefect passes only the key to the storages below. It starts with
# the key of each call, so nothing is ever read here that an earlier call has left.
_call: ContextVar[Call] = ContextVar("call")


def current_key() -> str:
    """Return the cache key of the step that is running in this thread."""
    return _call.get().key.digest


class StepTask(Task[P, R]):
    """A task that is pickled by its name: another process imports the module that defines it."""

    def __init__(self, function: Callable[P, R], **options: Any) -> None:
        super().__init__(function, **options)
        # Prefect accepts only storages that are saved in its server as an argument.
        self.result_storage = RecordedValues()

    def __reduce__(self) -> str:
        return str(self.fn.__qualname__)


def step(name: str, **options: Any) -> Callable[[Callable[P, R]], StepTask[P, R]]:
    """Make a function the task of the step `name`, cached by everything its output depends on.

    The function is called only if there is no valid cached result. It returns a reference, whose
    `made_by` is set to the cache key.
    """

    def decorate(function: Callable[P, R]) -> StepTask[P, R]:
        parameters = signature(function)

        @wraps(function)
        def body(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            call = _current_call(name, bound.arguments)
            if call.refusal is not None:  # what the step makes could not be stored either
                raise call.refusal
            logger.info("%s: running", call.label)
            result = function(*args, **kwargs)
            made = result.model_copy(update={"made_by": call.key.digest})
            call.made = made
            return made

        policy = StepPolicy(step=name).configure(
            key_storage=CheckedRecords(),
            lock_manager=StepLocks(),
            isolation_level=IsolationLevel.SERIALIZABLE,
        )
        return StepTask(
            body,
            name=name,
            cache_policy=policy,
            persist_result=True,
            result_serializer="json",
            task_run_name=partial(_run_name, name),
            **options,
        )

    return decorate


def _run_name(name: str, parameters: Mapping[str, Any]) -> str:
    """Name a task's run; Prefect calls this by keyword."""
    return with_mark(step_label(name, parameters))


class StepPolicy(CachePolicy):
    """Computes the cache key of a step with digits.cache.keys."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> str:
        """Return the digest of everything that the step's output depends on."""
        return _begin_call(self.step, inputs).key.digest


class CheckedRecords(WritableFileSystem):
    """The storage where Prefect looks up and records results: our records, verified on read."""

    _block_type_name: ClassVar[str] = "digits checked records"

    def read_path(self, path: str, _sync: bool | None = None) -> bytes:  # type: ignore[override]
        """Return the metadata of the result of the key `path`; raises if missing or corrupted."""
        call = _call.get()
        if call.record is None:  # Prefect asks twice
            call.record = _verified_record(call, path)
            _say_found(call.label, call.record)
        return ResultRecordMetadata(serializer=JSONSerializer(), storage_key=path).dump_bytes()

    def write_path(  # type: ignore[override]
        self,
        path: str,
        content: bytes,  # noqa: ARG002
        _sync: bool | None = None,
    ) -> None:
        """Record the result that the step of the key `path` has just returned."""
        call = _call.get()
        if path != call.key.digest or call.made is None:
            return  # a failed step: Prefect would keep the error
        if not project().is_unchanged(call.key.code):
            logger.warning(
                "%s: source files changed during the run; its result is used now but not cached",
                call.label,
            )
            return
        try:
            current_workspace().records.write(
                call.key,
                call.made,
                run_id=str(flow_run.id),
                run_name=str(flow_run.name),
                processor=processor(),
                variables=recorded_variables(),
            )
        except (OSError, StoreError) as error:
            logger.warning(
                "%s: cannot cache its result (%s); the step will run again next time",
                call.label,
                error,
            )


class RecordedValues(WritableFileSystem):
    """The storage of results themselves: the record that was just verified already has them."""

    _block_type_name: ClassVar[str] = "digits recorded values"

    def read_path(self, path: str, _sync: bool | None = None) -> bytes:  # type: ignore[override]
        """Return the result of the key `path` as JSON; raises if it was not verified before."""
        record = _call.get().record
        if record is None or record.key.digest != path:
            raise FileNotFoundError(path)
        return JSONSerializer().dumps(record.reference)

    def write_path(  # type: ignore[override]
        self, path: str, content: bytes, _sync: bool | None = None
    ) -> None:
        """Write nothing: the record has the result."""

    def _resolve_path(self, path: str) -> None:
        """Say that a result has no other path than its key."""


def _begin_call(name: str, arguments: Mapping[str, Any]) -> Call:
    call = Call(step_key(name, arguments), step_label(name, arguments))
    _call.set(call)
    return call


def _current_call(name: str, arguments: Mapping[str, Any]) -> Call:
    """Return the call that Prefect began with its key; begin it if that failed or was left out."""
    begun = _call.get(None)
    call = _begin_call(name, arguments)
    if begun is not None and begun.key == call.key:
        _call.set(begun)
        return begun
    return call


def _verified_record(call: Call, key: str) -> Record:
    try:
        record = current_workspace().records.verified(key)
    except StoreError as error:
        call.refusal = error
        raise
    except (DamagedError, OSError) as error:
        logger.warning("%s: %s; the step runs again", call.label, error)
        raise
    if record is None:
        raise FileNotFoundError(key)
    return record


def _say_found(label: str, record: Record) -> None:
    if is_of_this_run(record):
        return  # its line was "running"
    logger.info("%s: from the cache, made by %s", label, maker(record))
    # For the dashboard only: the terminal has the line above.
    get_run_logger().info("From the cache: made by %s, flow run %s", record.run_name, record.run_id)
