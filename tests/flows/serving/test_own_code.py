"""The identity of the code, and what becomes of runs of other code."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse

from flows.serving import own_code
from flows.serving.own_code import code_identity, other_code
from flows.serving.worker import Worker


def deployment(version: str | None) -> DeploymentResponse:
    return DeploymentResponse(name="gc", flow_id=uuid4(), version=version)


def test_the_identity_changes_with_any_source_file_and_with_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "ROOT", tmp_path)
    for package in own_code.PACKAGES:
        (tmp_path / package).mkdir()
    before = code_identity()
    (tmp_path / "README.md").write_text("Something else.")
    (tmp_path / "flows" / "__pycache__").mkdir()
    (tmp_path / "flows" / "__pycache__" / "gc.pyc").write_text("")
    assert code_identity() == before
    (tmp_path / "flows" / "gc.py").write_text("")
    assert code_identity() != before


def test_only_a_deployment_of_the_same_code_is_of_this_code() -> None:
    assert other_code(deployment(code_identity())) is None
    assert "the code 0.0.1+abc, and this machine has" in str(other_code(deployment("0.0.1+abc")))
    assert "the code unknown" in str(other_code(deployment(None)))


@flow(name="something")
def something() -> None:
    """Stand in for a flow."""


@pytest.mark.usefixtures("current")
def test_a_worker_leaves_runs_of_other_code_to_others_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(own_code.SETTING, "true")
    runs = {}

    async def taken() -> set[str]:
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name="mixed", type="process"))
            for version in (code_identity(), "0.0.1+abc"):
                made = await client.create_deployment(
                    await client.create_flow(something),
                    version,
                    version=version,
                    work_pool_name="mixed",
                )
                run = await client.create_flow_run_from_deployment(made)
                runs[version] = str(run.id)
        async with Worker(work_pool_name="mixed", create_pool_if_not_found=False) as worker:
            await worker.sync_with_backend()
            found = [await worker._get_scheduled_flow_runs() for _ in range(2)]
        return {str(one.flow_run.id) for one in found[1]}

    assert asyncio.run(taken()) == {runs[code_identity()]}
    said = [text for text in caplog.messages if "0.0.1+abc" in text]
    assert len(said) == 1
    assert "leaving runs to other workers" in said[0]
