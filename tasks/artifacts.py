"""Dashboard artifacts: what the dashboard shows of a run in addition to its states and log.

Prefect's own functions are not used because each call leaves a connection open.
"""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.utilities.context import get_task_and_flow_run_ids


def create(kind: str, key: str, data: Any, description: str) -> UUID:
    """Create a dashboard artifact of the current run, the newest of its key; return its id.

    `kind` is "markdown" or "progress"; a key consists of a-z, 0-9 and dashes.
    """
    task_run, flow_run = get_task_and_flow_run_ids()
    artifact = ArtifactCreate(
        type=kind,
        key=key,
        data=data,
        description=description,
        task_run_id=task_run,
        flow_run_id=flow_run,
    )
    with get_client(sync_client=True) as client:
        return client.create_artifact(artifact).id


def update(artifact: UUID, data: Any, description: str) -> None:
    """Replace the content of a dashboard artifact."""
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))


def newest(key: str) -> Any:
    """Return the data of the newest dashboard artifact of a key, or None if there is none."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    return found[0].data if found else None
