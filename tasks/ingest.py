"""Ingest: turn the dataset's files, wherever they come from, into Parquet."""

from collections.abc import Mapping
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import deployment
from prefect.tasks import Task

from digits.datasets.sources.content import Content
from digits.errors import UnreachableError
from digits.spec import DatasetSpec, Layout, ReadOptions
from digits.storage.references import DatasetRef
from digits.storage.workspace import current_workspace
from tasks.caching import step


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Return whether to retry: no source could be reached, and no user is waiting."""
    return isinstance(state.data, UnreachableError) and deployment.id is not None


@step("ingest", retries=3, retry_delay_seconds=[60, 300, 900], retry_condition_fn=may_pass)
def ingest(
    layout: Layout,
    content: Content,
    read_options: ReadOptions,
    sources: DatasetSpec,
    batches: Mapping[str, str],
) -> DatasetRef:
    """Obtain the files whose digests are `content` and store them as a typed dataset.

    `sources` says where to find them; it does not affect the result. `batches` contains the digests
    of the batches added to the dataset, under names that sort in their order.
    """
    from digits.datasets.ingestion import ingest_dataset

    added = batches.values()
    return ingest_dataset(layout, content, read_options, sources, current_workspace(), added=added)
