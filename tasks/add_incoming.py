"""Add incoming: each batch in the dataset's incoming folder is added or quarantined.

Never cached, because the folder's content can change at any time.
"""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from digits.datasets.versions import DatasetVersion, DatasetVersions
from digits.intake.incoming import names_waiting
from digits.report.dashboard_pages import batch_page
from digits.spec import DatasetSpec
from digits.storage.workspace import current_workspace
from tasks.dashboard import show, slug
from tasks.events import emit_addition

logger = logging.getLogger(__name__)


@task(
    name="add incoming", task_run_name="add incoming", cache_policy=NO_CACHE, persist_result=False
)
def add_incoming(spec: DatasetSpec) -> DatasetVersion:
    """Add all waiting batches and report each outcome; return the dataset's version then.

    A refused batch does not stop the run.
    """
    workspace = current_workspace()
    if names_waiting(spec.name, workspace.settings):
        from digits.intake.additions import add_all_incoming

        for addition in add_all_incoming(spec, workspace):
            logger.info("%s", addition.describe())
            page = batch_page(spec.title, addition)
            show(f"batch-{slug(spec.name)}", page, f"{addition.source}: {addition.status}")
            emit_addition(addition)
    return DatasetVersions(spec.name, workspace.settings).current()
