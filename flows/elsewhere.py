"""Trainings on workers of another pool, whose results come back by the store.

The other machine says only which record to look at. The record and the model are verified as all
that comes from the store, and must be of the training that was asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.logging import get_run_logger

from digits.cache.keys import step_key
from digits.errors import DigitsError, UsageError
from digits.models import TrainingSettings
from digits.storage.records import Record
from digits.storage.references import ArraysRef, ModelRef
from digits.storage.workspace import Workspace, current_workspace
from digits.training.devices import Device
from flows.serving.pools import PoolName
from tasks.journal import CACHED, Journal, NotedFuture

# A deployment belongs to one pool.
DEPLOYMENTS: Mapping[PoolName, str] = {"digits": "train/train", "digits-gpu": "train/train-gpu"}
# Of the finished run: the cache key of its training.
KEY_LABEL = "digits.record"


def require_store(workspace: Workspace) -> None:
    """Raise UsageError unless results are where other machines find them."""
    if workspace.objects is None:
        raise UsageError(
            "--train-on needs a store that both machines use: set DIGITS_STORE (docs/scale.md)"
        )


@task(
    name="train elsewhere",
    task_run_name="train {model} on {pool}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_elsewhere(
    arrays: ArraysRef, model: str, settings: TrainingSettings, device: Device, pool: PoolName
) -> ModelRef:
    """Let a worker of `pool` train a model, wait for it, and return the verified result.

    Unchanged trainings are skipped by that worker: only it knows its device and its libraries.
    Raises DigitsError if the training did not finish, or if its result is not what was asked for.
    """
    get_run_logger().info("Waiting for a worker of the pool %s to train %s", pool, model)
    asked = {"arrays": arrays, "model": model, "settings": settings}
    parameters = {
        "arrays": arrays.model_dump(mode="json"),
        "model": model,
        "settings": settings.model_dump(mode="json"),
        "device": device,
    }
    run = cast("FlowRun", run_deployment(DEPLOYMENTS[pool], parameters=parameters))
    record = _record_of(run, f"train {model} on {pool}")
    return checked(record, asked, f"the run {run.name} ({run.id})")


def _record_of(run: FlowRun, what: str) -> Record:
    state = run.state
    if state is None or state.type != StateType.COMPLETED:
        raise DigitsError(
            f"{what}: the run {run.name} ({run.id}) ended as {state and state.name}: "
            f"{state and state.message}; start this run again: the training resumes after its last "
            "complete epoch"
        )
    with get_client(sync_client=True) as client:
        key = str(client.read_flow_run(run.id).labels.get(KEY_LABEL))
    record = current_workspace().records.verified(key)
    if record is None:
        raise DigitsError(
            f"{what}: the store has no record of the run {run.name} ({run.id}); both machines must "
            "have the same DIGITS_STORE"
        )
    return record


def checked(record: Record, asked: Mapping[str, Any], run: str) -> ModelRef:
    """Return the result of a record. Raises DigitsError if it is of another training."""
    made = record.reference
    expected = step_key("train", {**asked, "device": "cpu"})
    is_it = (
        isinstance(made, ModelRef)
        and record.key.step == expected.step
        and record.key.code == expected.code
        and all(record.key.inputs.get(name) == expected.inputs[name] for name in asked)
    )
    if not is_it or not isinstance(made, ModelRef):
        raise DigitsError(
            f"{run} returned another training than it was asked for; its worker has other code, or "
            "the record was changed"
        )
    return made


@dataclass(frozen=True)
class ElsewhereFuture(NotedFuture[ModelRef]):
    """A training on another machine; another run made its result in any case."""

    def result(self) -> ModelRef:
        """Wait for the training and return what it made; raises its error."""
        made = self.future.result()
        self.journal.note(self.step, made, State(type=StateType.COMPLETED, name=CACHED))
        return made


@dataclass(frozen=True)
class TrainElsewhere:
    """The step `train`, on workers of a pool; what is trained is noted in a journal."""

    pool: PoolName
    device: Device
    journal: Journal

    def submit(
        self,
        *,
        arrays: ArraysRef,
        model: str,
        settings: TrainingSettings,
        device: str,  # noqa: ARG002  # this machine's
    ) -> ElsewhereFuture:
        """Start the training."""
        future = train_elsewhere.submit(arrays, model, settings, self.device, self.pool)
        return ElsewhereFuture(future, "train", self.journal)
