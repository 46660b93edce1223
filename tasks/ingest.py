"""Ingest: the dataset's files, wherever they come from, become Parquet."""

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
    """Whether to try later: the sources could not be reached, and nobody sits and waits."""
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

    `sources` says where to look for them; it does not change what comes out. `batches` gives the
    digests of those that were added to them, by names that keep their order.
    """
    from digits.datasets.ingestion import ingest_dataset

    added = batches.values()
    return ingest_dataset(layout, content, read_options, sources, current_workspace(), added=added)
