"""Prefect's artifacts: what the dashboard shows of a run, beside its states and its log.

Prefect's own functions leave a connection open with each call.
"""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.utilities.context import get_task_and_flow_run_ids


def create(kind: str, key: str, data: Any, description: str) -> UUID:
    """Make an artifact of the present run, the newest of its key; its id.

    `kind` is "markdown" or "progress"; a key may hold a-z, 0-9 and dashes.
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
    """Show something else in an artifact's place."""
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))


def newest(key: str) -> Any:
    """What the newest artifact of a key shows; None where there is none."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    return found[0].data if found else None
