"""What the dashboard shows, on a real Prefect server."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.runtime import flow_run

from digits.datasets.versions import version_of
from digits.progress import Progress
from digits.registry.ledger import Ledger
from digits.registry.promotion import Decision, RunOutcome
from digits.settings import Settings
from digits.storage.references import ReportRef, ValidationRef
from digits.storage.workspace import Workspace
from digits.validation.findings import (
    ValidationFailed,
    ValidationOutcome,
)
from tasks import artifacts, dashboard, live
from tasks.dashboard import announce, on_dashboard, show, show_run
from tests.support.findings import TOO_FEW_IMAGES
from tests.support.shown import digest, make_verdict, make_version, store_arrays, store_model
from tests.support.small_dataset import NAME


@pytest.fixture
def here(small_dataset: Settings, current: Workspace) -> Workspace:
    """The current workspace with the small dataset, and a server."""
    assert small_dataset == current.settings
    return current


def in_a_flow(body: Callable[[], Any]) -> Any:
    """Return the result of `body`, called in a flow."""

    @flow(name="made up", persist_result=False)
    def made_up() -> Any:
        return body()

    return made_up()


def shown_as(key: str) -> list[Artifact]:
    """All dashboard artifacts of a key, newest first."""
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.CREATED_DESC,
        )


def decide(workspace: Workspace, before: int | None, after: int | None, outcome: str) -> Any:
    """A decision in the ledger; creates a version if `after` is a new number."""
    with Ledger(NAME, workspace.settings).deciding() as ledger:
        known = {entry.version.number for entry in ledger.entries if entry.version}
        version = make_version(after) if after and after not in known else None
        verdict = make_verdict(outcome, before, after)
        return ledger.append(verdict, run="a run", data_digest=digest("data"), version=version)


def test_the_dashboard_shows_the_champion_of_the_ledger(here: Workspace) -> None:
    def champions() -> list[str]:
        """The versions that were shown as champion, newest first."""
        shown = [str(one.data) for one in shown_as(f"champion-{NAME}")]
        shown = shown[: len(shown) - num_before]
        return [page.partition(" is the champion")[0].rpartition(" ")[2] for page in shown]

    # Other tests use the same server.
    num_before = len(shown_as(f"champion-{NAME}"))
    in_a_flow(lambda: announce(decide(here, None, 1, "promoted")))
    assert champions() == ["1"]
    in_a_flow(lambda: announce(decide(here, 1, 1, "unchanged")))
    assert champions() == ["1"]
    # Without announcing it, as the command line does: shown with the next decision.
    decide(here, 1, 2, "promoted")
    in_a_flow(lambda: announce(decide(here, 2, 2, "kept")))
    assert champions() == ["2", "1"]


def test_a_dataset_without_a_champion_has_no_champion_page(here: Workspace) -> None:
    entry = decide(here, None, None, "kept").model_copy(update={"dataset": "mnist"})
    in_a_flow(lambda: announce(entry))
    assert shown_as("champion-mnist") == []


@pytest.mark.parametrize(
    ("train", "has_pictures"), [({"train mlp": None}, True), ({"train mlp": "last night"}, False)]
)
def test_a_run_has_pictures_only_if_something_is_new(
    here: Workspace, train: Mapping[str, str | None], has_pictures: bool
) -> None:
    entry = decide(here, None, 1, "promoted")

    def shown() -> str:
        outcome = RunOutcome(
            version=version_of([]),
            validation=ValidationRef(digest=digest("validation"), num_expectations=51),
            arrays=store_arrays(here.store),
            scored=[store_model(here.store, "mlp", 1)],
            lineage={},
            decision=Decision(entry=entry, standing=entry.verdict, rival=None),
            report=ReportRef(digest=digest("report")),
        )
        steps = {"ingest": None, **train, "report": None}
        show_run("Made-up digits", outcome, steps, lambda path: f"http://reports/{path.name}")
        return str(flow_run.id)

    run = in_a_flow(shown)
    artifact = shown_as(f"retrain-{NAME}")[0]
    assert str(artifact.flow_run_id) == run
    assert artifact.description == "New champion: the cnn, version 1"
    assert "(http://reports/report.html)" in str(artifact.data)
    assert str(artifact.data).count("data:image/png") == (3 if has_pictures else 0)


@pytest.mark.usefixtures("here")
def test_a_run_is_tagged_and_its_trainings_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0)

    @task
    def train() -> None:
        progress = Progress("train mlp")
        progress.begin(num_epochs=2, num_batches=1, epoch=0)
        progress.finish_epoch({"epoch": 2, "loss": 0.5, "val_accuracy": 0.75})

    def body() -> str:
        with on_dashboard(NAME, "Made-up digits", ("reference", "cpu"), lambda _: None):
            train.submit().result()
        return str(flow_run.id)

    run = in_a_flow(body)
    with get_client(sync_client=True) as client:
        assert {NAME, "reference", "cpu"} <= set(client.read_flow_run(run).tags)
    bar, *_ = shown_as("train-mlp")
    assert bar.data == 100
    assert bar.description == "train mlp: epoch 2 of 2, loss 0.5000, test accuracy 75.00%"
    assert bar.task_run_id is not None
    with get_client(sync_client=True) as client:
        # With tags, each task would wait for slots that nobody limits.
        assert not client.read_task_run(bar.task_run_id).tags


@pytest.mark.usefixtures("here")
def test_a_failed_validation_is_shown_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emitted: list[str] = []
    monkeypatch.setattr(
        dashboard, "emit_validation_failed", lambda dataset, _: emitted.append(dataset)
    )
    finding = TOO_FEW_IMAGES
    failure = ValidationFailed(ValidationOutcome(findings=(finding,)), Path("/page.html"))

    def body() -> None:
        with on_dashboard("spoiled_data", "Made-up digits", (), lambda _: "http://pages/page.html"):
            raise failure

    with pytest.raises(ValidationFailed):
        in_a_flow(body)
    (shown,) = shown_as("validation-spoiled--data")
    assert "| 600 | 6000 |" in str(shown.data)
    assert "(http://pages/page.html)" in str(shown.data)
    assert emitted == ["spoiled_data"]


def test_an_unreachable_server_is_logged_and_does_not_stop_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def gone(*_: Any, **__: Any) -> None:
        tries.append("")
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(artifacts, "create", gone)
    monkeypatch.setattr(dashboard, "PAUSES", (0, 0))
    show("a-key", "a page", "a description")
    assert len(tries) == 3
    assert "the dashboard is missing part of this run: gone" in caplog.text
