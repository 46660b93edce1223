"""MLflow's runs: one per run of ours, and one nested in it per trained model.

Each is found by the digests in its tags, so nothing is logged twice. A run that is not finished was
interrupted and is completed: logging the same value again changes nothing.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from digits.escaping import markdown_text
from digits.registry.ledger import Entry
from digits.storage.references import EvaluationRef, ModelRef, OnnxRef
from digits.storage.workspace import Workspace
from digits.tracking.unpublished import MadeByRun

Tags = Mapping[str, str]


def tagged(tags: Tags) -> dict[str, str]:
    """Return tags with the prefix that tells ours from others."""
    return {f"digits.{name}": value for name, value in tags.items()}


class Runs:
    """The experiment of one dataset; `entries` is its ledger."""

    def __init__(self, dataset: str, entries: Sequence[Entry], workspace: Workspace) -> None:
        self.client = MlflowClient()
        self._dataset, self._entries, self._store = dataset, entries, workspace.store
        self._forms = {form.model_digest: form for entry in entries for form in entry.forms}
        self._experiment = self._find_experiment(f"digits-{dataset}")

    def form_of(self, model: ModelRef) -> OnnxRef | None:
        """Return a model's ONNX form, or None: only models of promoted runs have one."""
        return self._forms.get(model.digest)

    def log_run(self, made: MadeByRun) -> None:
        """Log a run: its decision, its models, its report.

        Raises DamagedError if a bundle is missing or corrupted.
        """
        entry = self._entries[made.line - 1]
        self._store.verify(made.report)

        def fill(run: Run) -> None:
            for model, evaluation in made.scored:
                self.log_model(model, evaluation, parent=run.info.run_id)
            verdict = entry.verdict
            facts = {
                "outcome": verdict.outcome,
                "ledger_line": str(entry.number),
                "ledger_digest": entry.digest,
                "data_digest": entry.data_digest,
            }
            self.client.log_batch(
                run.info.run_id,
                metrics=_metrics(run, {"test_accuracy": verdict.candidate_accuracy}),
                params=_params({"candidate": verdict.candidate, "rule": verdict.rule}),
                tags=_tags(tagged(facts) | {"mlflow.note.content": markdown_text(verdict.reason)}),
            )
            self.client.log_artifact(
                run.info.run_id, str(self._store.folder(made.report) / "report.html")
            )

        self._once(made.run, {"report_digest": made.report.digest}, fill)

    def log_model(
        self, model: ModelRef, evaluation: EvaluationRef, parent: str | None = None
    ) -> str:
        """Log a model's training and score, with its ONNX form, and return the id of MLflow's run.

        Raises DamagedError if a bundle is missing or corrupted.
        """
        self._store.verify(model)
        form = self.form_of(model)
        history = json.loads((self._store.folder(model) / "history.json").read_bytes())["epochs"]

        def fill(run: Run) -> None:
            settings = {"device": model.device, **_flat(model.settings.model_dump(mode="json"))}
            facts = {"model": model.model, "num_parameters": model.num_parameters, **settings}
            score = {
                "test_accuracy": evaluation.accuracy,
                "test_accuracy_lower": evaluation.interval[0],
                "test_accuracy_upper": evaluation.interval[1],
                "test_loss": evaluation.loss,
                "training_seconds": model.seconds,
            }
            self.client.log_batch(
                run.info.run_id,
                metrics=[*_curves(run, history, model.seconds), *_metrics(run, score)],
                params=_params(facts),
            )

        identity = {
            "model_digest": model.digest,
            "evaluation_digest": evaluation.digest,
            "test_digest": evaluation.test_digest,
        }
        identifier = self._once(model.model, identity, fill, parent, model.seconds)
        if form is not None:
            from digits.tracking.mlflow_models import log_form

            self._store.verify(form)
            log_form(self.client, identifier, self._store.folder(form) / "model.onnx", form)
        return identifier

    def _once(
        self,
        name: str,
        identity: Tags,
        fill: Callable[[Run], None],
        parent: str | None = None,
        seconds: float = 0,
    ) -> str:
        run = self._find_run(identity)
        if run is not None and run.info.status == "FINISHED":
            return str(run.info.run_id)
        if run is None:
            start = time.time() - seconds
            tags = tagged({**identity, "dataset": self._dataset})
            run = self.client.create_run(
                self._experiment,
                start_time=int(1000 * start),
                tags=tags | ({"mlflow.parentRunId": parent} if parent else {}),
                run_name=name,
            )
        fill(run)
        end = run.info.start_time + int(1000 * seconds) if seconds else None
        self.client.set_terminated(run.info.run_id, end_time=end)
        return str(run.info.run_id)

    def _find_experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name))

    def _find_run(self, identity: Tags) -> Run | None:
        wanted = " and ".join(
            f"tags.`{key}` = '{value}'" for key, value in tagged(identity).items()
        )
        found = self.client.search_runs([self._experiment], wanted, max_results=1)
        return found[0] if found else None


def _curves(run: Run, history: Sequence[Mapping[str, Any]], seconds: float) -> list[Metric]:
    """The metrics of each epoch, spread over the time that the training took."""
    start, epoch_ms = run.info.start_time, 1000 * seconds / max(len(history), 1)
    return [
        Metric(name, value, start + int(row["epoch"] * epoch_ms), row["epoch"])
        for row in history
        for name, value in row.items()
        if name != "epoch"
    ]


def _metrics(run: Run, values: Mapping[str, float]) -> list[Metric]:
    return [Metric(name, value, run.info.start_time, 0) for name, value in values.items()]


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [Param(name, str(value)) for name, value in values.items() if value is not None]


def _tags(values: Tags) -> list[RunTag]:
    return [RunTag(name, value) for name, value in values.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
