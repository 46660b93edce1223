"""Ingest: the dataset's files, wherever they come from, become Parquet."""

from digits.dataset import DatasetSpec, Layout
from digits.references import DatasetRef
from digits.sources import Content
from digits.workspace import current_workspace
from tasks.caching import step


@step("ingest")
def ingest(layout: Layout, content: Content, sources: DatasetSpec) -> DatasetRef:
    """Obtain the files whose digests are `content` and store them as a typed dataset.

    `sources` says where to look for them; it does not change what comes out.
    """
    from digits.ingestion import ingest_dataset

    return ingest_dataset(layout, content, sources, current_workspace())
