"""MLflow's model registry: the ledger's versions, and the alias of the champion."""

from collections.abc import Sequence

from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from digits.errors import DigitsError
from digits.escaping import markdown_text
from digits.registry.ledger import Entry, ModelVersion, champion_of
from digits.tracking.mlflow_runs import Runs, tagged

ALIAS = "champion"
# The digest of the line that promoted a version tells it from those of other workspaces.
IDENTITY = "digits.ledger_digest"


class Versions:
    """The registered model of one dataset; `entries` is its ledger."""

    def __init__(self, dataset: str, entries: Sequence[Entry], runs: Runs) -> None:
        self.name = f"digits-{dataset}"
        self._entries, self._runs, self._client = entries, runs, runs.client

    def update(self) -> None:
        """Register each version that MLflow lacks, and move the alias to the champion.

        Raises DigitsError if the champion has no ONNX form; the alias is then deleted.
        """
        champion = champion_of(list(self._entries))
        if champion is None:
            return
        model = self._registered_model()
        numbers = self._known()
        for entry in self._entries:
            version = entry.version
            if version and entry.digest not in numbers and self._runs.form_of(version.model):
                numbers[entry.digest] = self._register(entry, version)
        line = next(
            entry.digest
            for entry in self._entries
            if entry.version and entry.version.number == champion.number
        )
        self._move_alias(model, numbers.get(line))
        if line not in numbers:
            raise DigitsError(
                f"version {champion.number} has no ONNX form to register; `digits run` makes it"
            )

    def _registered_model(self) -> RegisteredModel:
        try:
            return self._client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
        return self._client.create_registered_model(
            self.name, description="The champions of digits; its ledger decides, not this registry."
        )

    def _known(self) -> dict[str, str]:
        """MLflow's number of each version that it has, by the digest of its line."""
        found: dict[str, str] = {}
        page = None
        while page != "":
            versions = self._client.search_model_versions(f"name='{self.name}'", page_token=page)
            found |= {
                one.tags[IDENTITY]: str(one.version) for one in versions if IDENTITY in one.tags
            }
            page = versions.token or ""
        return found

    def _register(self, entry: Entry, version: ModelVersion) -> str:
        run = self._runs.log_model(version.model, version.evaluation)
        form = self._runs.form_of(version.model)
        tags = {
            "version": str(version.number),
            "model": version.model.model,
            "model_digest": version.model.digest,
            "onnx_digest": form.digest if form else "",
            "evaluation_digest": version.evaluation.digest,
            "data_digest": entry.data_digest,
            "lineage_digest": version.lineage,
            "ledger_line": str(entry.number),
            "ledger_digest": entry.digest,
            "test_accuracy": str(version.evaluation.accuracy),
        }
        made = self._client.create_model_version(
            self.name,
            source=f"runs:/{run}/model",
            run_id=run,
            tags=tagged(tags),
            description=markdown_text(entry.verdict.reason),
            await_creation_for=0,
        )
        return str(made.version)

    def _move_alias(self, model: RegisteredModel, number: str | None) -> None:
        current = model.aliases.get(ALIAS)
        if number is None and current is not None:
            self._client.delete_registered_model_alias(self.name, ALIAS)
        elif number is not None and str(current) != number:
            self._client.set_registered_model_alias(self.name, ALIAS, number)
