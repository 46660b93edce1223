"""The steps' cache policy: Prefect's task caching with our own keys and checks.

Before each step, Prefect asks the key storage for a record. Ours returns one only after checking
every byte that the record refers to; otherwise Prefect runs the step again. The value that Prefect
then reads was just written by us: nothing on disk can name a serializer or a class to load.
"""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from prefect import task
from prefect._internal.result_records import ResultRecordMetadata
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.filesystems import WritableFileSystem
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.serializers import JSONSerializer
from prefect.settings import get_current_settings
from prefect.tasks import Task
from prefect.transactions import IsolationLevel

from digits.cache.keys import project, step_key, step_label
from digits.errors import DamagedError
from digits.storage.files import write_whole
from digits.storage.records import Record, StepKey
from digits.storage.references import Reference
from digits.storage.workspace import current_workspace
from digits.training.processors import processor
from digits.training.variables import recorded_variables
from tasks.journal import note
from tasks.locking import FlockManager

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R", bound=Reference)

# Keys and results of this process: Prefect passes only the key to the storage below.
_keys: dict[str, tuple[StepKey, str]] = {}
_results: dict[str, Reference] = {}
_running: ContextVar[str] = ContextVar("running")


def current_key() -> str:
    """Return the cache key of the step that is running in this thread."""
    return _running.get()


def step(name: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function the task of the step `name`, cached by everything its output depends on.

    The function is called only if there is no valid cached result. It returns a reference, whose
    `made_by` is set to the cache key.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        parameters = signature(function)

        @wraps(function)
        def body(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            key = _computed_key(name, bound.arguments)
            _running.set(key)
            note(_label(key), made_in=None)
            result = function(*args, **kwargs).model_copy(update={"made_by": key})
            _results[key] = result
            return result

        policy = StepPolicy(step=name).configure(
            key_storage=CheckedRecords(),
            lock_manager=FlockManager(),
            isolation_level=IsolationLevel.SERIALIZABLE,
        )
        return task(
            name=name,
            cache_policy=policy,
            persist_result=True,
            result_serializer="json",
            task_run_name=partial(step_label, name),
            **options,
        )(body)

    return decorate


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
        return _computed_key(self.step, inputs)


class CheckedRecords(WritableFileSystem):
    """The storage where Prefect looks up and records results: our records, verified on read."""

    _block_type_name: ClassVar[str] = "digits checked records"

    def read_path(self, path: str, _sync: bool | None = None) -> bytes:  # type: ignore[override]
        """Return the metadata of the result of the key `path`; raises if missing or corrupted."""
        try:
            record = current_workspace().records.verified(path)
            metadata = _laid_out(record) if record else b""
        except (DamagedError, OSError) as error:
            logger.warning("%s: %s; the step runs again", _label(path), error)
            raise
        if record is None:
            raise FileNotFoundError(path)
        made_in = f"{record.run_name} of {record.created:%Y-%m-%d %H:%M}"
        if note(_label(path), made_in=made_in):
            # For the dashboard only: the terminal has the journal's line.
            get_run_logger().info(
                "From the cache: made by %s, flow run %s", record.run_name, record.run_id
            )
        return metadata

    def write_path(  # type: ignore[override]
        self,
        path: str,
        content: bytes,  # noqa: ARG002
        _sync: bool | None = None,
    ) -> None:
        """Record the result that the step of the key `path` has just returned."""
        if not project().is_unchanged(_keys[path][0].code):
            logger.warning(
                "%s: source files changed during the run; its result is used now but not cached",
                _label(path),
            )
            return
        try:
            current_workspace().records.write(
                _keys[path][0],
                _results[path],
                run_id=str(flow_run.id),
                run_name=str(flow_run.name),
                processor=processor(),
                variables=recorded_variables(),
            )
        except OSError as error:
            logger.warning(
                "%s: cannot cache its result (%s); the step will run again next time",
                _label(path),
                error,
            )


def _computed_key(name: str, arguments: Mapping[str, Any]) -> str:
    key = step_key(name, arguments)
    _keys[key.digest] = (key, step_label(name, arguments))
    return key.digest


def _label(key: str) -> str:
    return _keys[key][1]


def _laid_out(record: Record) -> bytes:
    """Write a verified record's value where Prefect reads it next, and return its metadata."""
    folder = Path(get_current_settings().results.local_storage_path)
    key = record.key.digest
    content = JSONSerializer().dumps(record.reference)
    if not (folder / key).exists() or (folder / key).read_bytes() != content:
        write_whole(folder / key, content)
    return ResultRecordMetadata(serializer=JSONSerializer(), storage_key=key).dump_bytes()
