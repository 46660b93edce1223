"""Runs, promotions and rollbacks as a real MLflow server shows them."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.references import ReportRef
from digits.storage.workspace import Workspace
from digits.tracking.publication import publish
from digits.tracking.unpublished import MadeByRun, Unpublished
from tests.support.commands import DIGITS, run_digits
from tests.support.histories import digest
from tests.support.mlflow_server import MlflowServer, server_environment, tags_of
from tests.support.small_dataset import NAME, write_small_dataset

# The first test installs the server, once for each version of its lock file.
pytestmark = [pytest.mark.network, pytest.mark.timeout(1200)]

MODEL = f"digits-{NAME}"
# Better than one epoch of one model.
REQUEST = ("--epochs", "3")
# Loads the champion as its users do.
LOAD = f"""
import mlflow, numpy
model = mlflow.pyfunc.load_model("models:/{MODEL}@champion")
(size,) = {{spec.shape[1:] for spec in model.metadata.signature.inputs}}
(answer,) = model.predict({{"image": numpy.zeros((3, *size), numpy.float32)}}).values()
print(answer.shape)
"""

# Rolls back as a deployment does: the Prefect flow, on a server of its own.
ROLL_BACK = f"""
from digits.settings import Settings
from flows.environment import prepare_environment, prepare_folders
settings = Settings()
prepare_environment(settings)
prepare_folders(settings)
from flows.serving.embedded_server import prefect_server
with prefect_server() as wait_for_server:
    from flows.rollback import rollback
    wait_for_server()
    rollback(dataset="{NAME}", version=2)
"""


class Team:
    """A workspace whose runs are published, and the server where they should be."""

    def __init__(self, settings: Settings, server: MlflowServer) -> None:
        self.settings, self.server = settings, server
        self.store = Workspace(settings).store
        here = {"mlflow_tracking_uri": server.uri, "mlflow_seconds": 240}
        self.configured = Settings(**(settings.model_dump() | here))

    def digits(self, *arguments: str, code: str = DIGITS) -> "subprocess.CompletedProcess[str]":
        done = run_digits(
            self.settings,
            *arguments,
            *("--dataset", NAME),
            code=code,
            MLFLOW_TRACKING_URI=self.server.uri.replace("//", "//operator:s3cret@"),
            DIGITS_MLFLOW_SECONDS="240",
        )
        assert done.returncode == 0, done.stderr
        assert "s3cret" not in done.stdout + done.stderr
        return done

    @property
    def entries(self) -> list[Any]:
        return Ledger(NAME, self.settings).entries()

    def check_alias(self) -> None:
        """The alias is where the ledger says, on a version with that line's digest."""
        number = self.entries[-1].verdict.champion_after
        line = next(one for one in self.entries if one.version and one.version.number == number)
        assert tags_of(self.server.champion(MODEL))["digits.ledger_digest"] == line.digest


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A workspace with a promotion that MLflow missed, and one that it saw."""
    root = tmp_path_factory.mktemp("team")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    write_small_dataset(settings)
    server = MlflowServer(server_environment(), root / "mlflow")
    team = Team(settings, server)
    missed = team.digits("run", "--models", "mlp", "--epochs", "1")
    (warning,) = (line for line in missed.stderr.splitlines() if "MLflow" in line)
    assert f"MLflow lacks part of {NAME}: http://***@127.0.0.1:{server.port}: " in warning
    with server.running():
        seen = team.digits("run", *REQUEST)
        assert "MLflow" not in seen.stderr
        yield team


def test_a_run_is_logged_with_its_models_curves_digests_and_report(team: Team) -> None:
    promoted = team.entries[-1]
    runs = {tags_of(run["data"]).get("digits.ledger_digest"): run for run in team.server.runs()}
    run = runs[promoted.digest]
    tags = tags_of(run["data"])
    assert run["info"]["status"] == "FINISHED"
    assert tags["digits.data_digest"] == promoted.data_digest
    assert tags["digits.outcome"] == "promoted"
    reports = team.settings.artifacts_dir / "reports"
    report = (reports / tags["digits.report_digest"] / "report.html").read_bytes()
    assert team.server.artifact(run, "report.html") == report

    nested = [
        one
        for one in team.server.runs()
        if tags_of(one["data"]).get("mlflow.parentRunId") == run["info"]["run_id"]
    ]
    assert sorted(one["info"]["run_name"] for one in nested) == ["cnn", "mlp"]
    version = promoted.version
    best = next(
        one for one in nested if tags_of(one["data"])["digits.model_digest"] == version.model.digest
    )
    params = {param["key"]: param["value"] for param in best["data"]["params"]}
    assert params["optimizer"] == version.model.settings.optimizer
    assert params["num_parameters"] == str(version.model.num_parameters)
    metrics = {metric["key"]: metric["value"] for metric in best["data"]["metrics"]}
    assert metrics["test_accuracy"] == version.evaluation.accuracy
    history = json.loads((team.store.folder(version.model) / "history.json").read_bytes())
    for name in ("loss", "val_accuracy"):
        curve = team.server.curve(best["info"]["run_id"], name)
        found = [(int(point["step"]), point["value"]) for point in curve]
        assert found == [(row["epoch"], row[name]) for row in history["epochs"]]


def test_each_promotion_is_a_version_also_one_that_was_missed(team: Team) -> None:
    promoted = [entry for entry in team.entries if entry.version]
    versions = team.server.versions(MODEL)
    assert len(versions) == len(promoted) == 2
    forms = {form.model_digest: form for entry in team.entries for form in entry.forms}
    runs = {run["info"]["run_id"]: run for run in team.server.runs()}
    for entry, version in zip(promoted, versions, strict=True):
        tags = tags_of(version)
        assert tags["digits.version"] == str(entry.version.number)
        assert tags["digits.ledger_line"] == str(entry.number)
        assert tags["digits.ledger_digest"] == entry.digest
        assert tags["digits.model_digest"] == entry.version.model.digest
        form = forms[entry.version.model.digest]
        assert tags["digits.onnx_digest"] == form.digest
        published = team.server.artifact(runs[version["run_id"]], "model/model.onnx")
        ours = (team.store.folder(form) / "model.onnx").read_bytes()
        assert hashlib.sha256(published).hexdigest() == hashlib.sha256(ours).hexdigest()
    assert not list(Unpublished(NAME, team.settings).all())
    team.check_alias()


def test_the_alias_loads_in_mlflows_own_client(team: Team, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "MLFLOW_TRACKING_URI": team.server.uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "(3, 10)", done.stderr


def test_an_unchanged_run_adds_nothing(team: Team) -> None:
    before = len(team.server.runs()), len(team.server.versions(MODEL))
    team.digits("run", *REQUEST)
    assert (len(team.server.runs()), len(team.server.versions(MODEL))) == before
    team.check_alias()


def test_what_an_interruption_left_is_completed_and_what_is_gone_is_said_once(team: Team) -> None:
    promoted = [entry for entry in team.entries if entry.version][-1]
    runs = team.server.runs()
    cut = next(
        run for run in runs if tags_of(run["data"]).get("digits.ledger_digest") == promoted.digest
    )
    asked = {"run_id": cut["info"]["run_id"], "status": "RUNNING"}
    team.server.post("mlflow/runs/update", asked)
    note = MadeByRun(
        run="retrain",
        line=promoted.number,
        scored=((promoted.version.model, promoted.version.evaluation),),
        report=ReportRef(digest=tags_of(cut["data"])["digits.report_digest"]),
    )
    gone = note.model_copy(update={"report": ReportRef(digest=digest("deleted by gc"))})
    Unpublished(NAME, team.settings).add(gone)
    warning = publish(NAME, team.configured, note)
    assert warning is not None
    assert digest("deleted by gc") in warning
    assert publish(NAME, team.configured) is None
    statuses = {run["info"]["run_id"]: run["info"]["status"] for run in team.server.runs()}
    assert statuses == {run["info"]["run_id"]: "FINISHED" for run in runs}


def test_a_rollback_moves_the_alias_and_registers_what_is_missing(team: Team) -> None:
    first = team.server.versions(MODEL)[0]
    asked = {"name": MODEL, "version": first["version"]}
    team.server.delete("mlflow/model-versions/delete", asked)
    done = team.digits("rollback", "1")
    assert "MLflow" not in done.stderr
    champion = team.server.champion(MODEL)
    assert tags_of(champion)["digits.version"] == "1"
    assert champion["version"] not in (first["version"], "2")
    assert champion["run_id"] == first["run_id"]
    team.check_alias()


def test_the_flow_of_a_rollback_moves_the_alias_too(team: Team) -> None:
    team.digits(code=ROLL_BACK)
    assert tags_of(team.server.champion(MODEL))["digits.version"] == "2"
    team.check_alias()
